#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "moe/checkpoint/huggingface/config.h"
#include "moe/checkpoint/safetensors_folder.h"

namespace moe {

/// The names of the tensors that hold a tensor in 4-bit blocks, and of the scales of one in
/// FP8.
std::string mxfp4_blocks(const std::string& name);
std::string mxfp4_scales(const std::string& name);
std::string fp8_scale(const std::string& name);

/// A tensor of ours and where its elements lie: in one or more tensors of the weight files.
struct TensorOrigin {
  NamedShape ours;
  TensorParts parts;
};

/// The configuration and weights of a model folder, opened and checked against each other:
/// every tensor is there once, in the right shape and with floating-point elements, and there
/// is none besides. Throws `Error` naming the file, what was found and what would be right. No
/// data is read.
class ModelFiles {
 public:
  explicit ModelFiles(const std::filesystem::path& folder);

  const std::filesystem::path& folder() const&;
  const ReadConfig& config() const&;
  const SafetensorsFolder& weights() const&;

  /// All tensors of ours, in the order of `decoder_tensors`.
  const std::vector<TensorOrigin>& origins() const&;

  /// Not of a temporary, with which what they refer to would be gone.
  const std::filesystem::path& folder() const&& = delete;
  const ReadConfig& config() const&& = delete;
  const SafetensorsFolder& weights() const&& = delete;
  const std::vector<TensorOrigin>& origins() const&& = delete;

 private:
  std::filesystem::path folder_;
  ReadConfig config_;
  SafetensorsFolder weights_;
  std::vector<TensorOrigin> origins_;
};

} // namespace moe
