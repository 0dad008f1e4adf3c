#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "moe/checkpoint/huggingface/config.h"
#include "moe/checkpoint/model_files.h"
#include "moe/checkpoint/state_dict.h"
#include "moe/decoder/decoder_options.h"

namespace moe {

/// What a model folder holds besides options and weights.
struct ModelExtras {
  /// Text of tokenizer.json; empty writes none.
  std::string tokenizer_json;
  /// Id of the token that begins a text, and ids that end one, the first of them as written.
  std::optional<int64_t> bos_token_id;
  std::vector<int64_t> eos_token_ids;
  std::string end_of_text = "<|endoftext|>";
  /// Ours: 1 at perfect balance. Written to config.json divided by K.
  double load_balancing_weight = 0.0;
  /// Type of the stored weights.
  torch::ScalarType dtype = torch::kFloat32;
  /// Store each tensor in the type that it has instead; `dtype` is only the model's name of it.
  bool keep_types = false;
  /// Architecture to write if it expresses the model, such as that of the folder from which the
  /// model was read; empty or another one: the first that does.
  std::string family;
  /// Weights are split into files of at most this size; 0 for one file.
  int64_t max_shard_bytes = 0;
};

/// A tensor that is made whenever it is asked for.
struct LazyTensor {
  std::vector<int64_t> shape;
  torch::ScalarType type = torch::kFloat32;
  std::function<torch::Tensor()> make;
};

/// Tensors by name of which not all need to be in memory at once.
using LazyTensors = std::map<std::string, LazyTensor>;

/// Writes config.json, generation_config.json, the weights and the tokenizer into `folder`,
/// which exists (that of an `AtomicFolder`). `tensors` holds the parameters under `DecoderLM`'s
/// names: `state_dict(*model)`. Returns notices, one line each. Throws `Error` when tensors and
/// options do not fit, or the disk is full.
std::vector<std::string> write_model_files(
    const std::filesystem::path& folder,
    const DecoderOptions& options,
    const StateDict& tensors,
    const ModelExtras& extras = {});

/// The same with tensors that are made while they are written, those of one layer at a time.
std::vector<std::string> write_model_files(
    const std::filesystem::path& folder,
    const DecoderOptions& options,
    const LazyTensors& tensors,
    const ModelExtras& extras);

/// Writes a model as a new Hugging Face folder: complete, or not at all. `folder` must not hold
/// anything yet.
std::vector<std::string> save_model_folder(
    const std::filesystem::path& folder,
    const DecoderOptions& options,
    const StateDict& tensors,
    const ModelExtras& extras = {});

/// A Hugging Face folder, opened and checked: every tensor of the model is there in the right
/// shape, and there is none besides. The weights are read when they are asked for.
///
/// Example:
/// ```
/// ModelFolder folder(find_model_folder("runs/demo").folder);
/// DecoderLM model(folder.options());
/// folder.load_into(*model);
/// ```
class ModelFolder {
 public:
  /// Throws `Error` naming the file, what was found and what would be right.
  explicit ModelFolder(const std::filesystem::path& folder);

  const std::filesystem::path& path() const;
  const DecoderOptions& options() const;
  const ConfigExtras& extras() const;
  const std::string& family() const;

  /// What the user should know: ignored keys, untied weights. One line each.
  const std::vector<std::string>& notices() const;

  /// Copies the weights into a module with `DecoderLM`'s parameter names, converting the type.
  /// Needs no memory besides the module's. Throws `Error` and changes nothing unless names and
  /// shapes agree.
  void load_into(torch::nn::Module& module) const;

  /// The weights under `DecoderLM`'s names, in the type in which they are stored.
  StateDict tensors() const;

  /// The same, each read when it is asked for; not to be used when the folder is gone.
  LazyTensors lazy_tensors() const;

 private:
  ModelFiles files_;
};

} // namespace moe
