#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "moe/checkpoint/huggingface/config.h"
#include "moe/checkpoint/safetensors_writer.h"
#include "moe/files/atomic_file.h"

namespace moe {

/// Options of a model that fits in a few kilobytes.
inline DecoderOptions tiny_model_options() {
  return {
      .vocab_size = 11,
      .context_length = 32,
      .model_dim = 8,
      .num_layers = 2,
      .attention = {.num_heads = 2, .num_kv_heads = 1},
      .num_experts = 3,
      .experts_per_token = 2,
      .expert_dim = 4,
      .dense_layers = {},
      .dense_dim = 6};
}

/// Writes a model folder without LibTorch: every element of every tensor is zero. `change` may
/// alter the tensors before they are written; `layout` chooses among the ways to store them.
inline void write_zero_model(
    const std::filesystem::path& folder,
    const DecoderOptions& options,
    const std::function<void(std::vector<StoredTensor>&)>& change = {},
    size_t layout = 0) {
  std::filesystem::create_directories(folder);
  const WrittenConfig config = write_config(options);
  write_file_atomically(folder / "config.json", config.config);
  std::vector<StoredTensor> tensors;
  for (const TensorLayout& tensor : tensor_layouts(config.family, options)) {
    const auto& parts = tensor.stored[std::min(layout, tensor.stored.size() - 1)];
    tensors.insert(tensors.end(), parts.begin(), parts.end());
  }
  if (change) {
    change(tensors);
  }
  std::vector<std::byte> zeros(1 << 20);
  std::vector<TensorSource> sources;
  for (const StoredTensor& tensor : tensors) {
    const auto size = tensor_bytes(ElementType::f32, tensor.shape).value();
    sources.push_back(tensor_source(
        tensor.name,
        ElementType::f32,
        tensor.shape,
        std::span<const std::byte>(zeros).first(static_cast<size_t>(size))));
  }
  write_safetensors_folder(folder, sources);
}

} // namespace moe
