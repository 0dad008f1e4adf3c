#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "moe/checkpoint/model_folder.h"
#include "moe/decoder/decoder_lm.h"
#include "moe/editing/edited_model.h"
#include "moe/editing/text_sample.h"
#include "moe/libtorch.h"
#include "tests/support/temporary_folder.h"

namespace moe::testing {

/// A model with random weights, norms and biases too.
inline DecoderLM random_model(const DecoderOptions& options, uint64_t seed = 0) {
  torch::manual_seed(seed);
  DecoderLM model(options);
  const torch::NoGradGuard no_grad;
  for (auto& item : model->named_parameters()) {
    if (item.value().dim() == 1) {
      item.value().normal_(item.key().ends_with("bias") ? 0.0 : 1.0, 0.3);
    }
  }
  model->eval();
  return model;
}

inline ModelFolder save(const std::filesystem::path& folder, DecoderLM model) {
  save_model_folder(folder, model->options, state_dict(*model));
  return ModelFolder(folder);
}

inline DecoderLM load(const std::filesystem::path& path) {
  const ModelFolder folder(path);
  DecoderLM model(folder.options());
  folder.load_into(*model);
  model->eval();
  return model;
}

/// What an operation made, written and read again.
inline DecoderLM write_and_load(
    const std::filesystem::path& path, const EditedModel& edited, const ModelFolder& source) {
  save_edited_model(path, edited, source);
  return load(path);
}

inline torch::Tensor model_logits(DecoderLM model, const torch::Tensor& ids) {
  const torch::NoGradGuard no_grad;
  return model->logits(model->forward(ids).hidden);
}

/// Rows of ids from `first` to `last` - 1.
inline torch::Tensor ids_between(int64_t first, int64_t last, int64_t rows = 4) {
  torch::manual_seed(first);
  return torch::randint(first, last, {rows, 24}, torch::kInt64);
}

inline TextSample text_between(const std::string& name, int64_t first, int64_t last) {
  return {name, {ids_between(first, last, 8), ids_between(first, last, 8)}};
}

} // namespace moe::testing
