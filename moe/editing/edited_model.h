#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "moe/checkpoint/model_folder.h"
#include "moe/checkpoint/new_experts.h"

namespace moe {

/// What an operation makes of one model or several. Tensors are made when they are asked for,
/// from the folders they come from, which must outlive this.
struct EditedModel {
  DecoderOptions options;
  LazyTensors tensors;
  NewExperts new_experts;          ///< that were added, to be trained by themselves
  std::vector<std::string> report; ///< what was chosen and measured, one line each
};

/// Writes the model as a new folder, with the tokenizer and the companion files of `source`, in
/// the types that its tensors have and as its architecture if that expresses the result.
/// Returns notices. `folder` must not hold anything yet. Needs memory for the tensors of one
/// layer.
std::vector<std::string> save_edited_model(
    const std::filesystem::path& folder, const EditedModel& model, const ModelFolder& source);

/// The layers with experts that an operation changes: `layers`, or all if it is empty. Throws
/// `Error` for a layer without experts.
std::vector<int64_t> chosen_layers(
    const DecoderOptions& options, const std::vector<int64_t>& layers);

/// The same options with other numbers of experts in some layers, by layer.
DecoderOptions with_layer_experts(
    const DecoderOptions& options, const std::map<int64_t, int64_t>& experts);

/// Takes the place of a tensor by `change` of it; the number of rows may be another then.
void replace_tensor(
    LazyTensors& tensors,
    const std::string& name,
    std::vector<int64_t> shape,
    const std::function<torch::Tensor(const torch::Tensor&)>& change);

/// Names of the tensors of a layer of which each expert has a part along the first dimension:
/// the router's and the stacks.
std::vector<std::string> expert_tensor_names(const DecoderOptions& options, int64_t layer);

/// Throws `Error` unless each token's experts are the best of all that a layer has, by a score
/// of each one's row of the router: what operations that add or remove experts need.
void check_experts_can_change(const DecoderOptions& options, const std::string& operation);

/// The same, and unless logits are products with the router's rows.
void check_rows_can_be_fitted(const DecoderOptions& options, const std::string& operation);

} // namespace moe
