#pragma once

#include <torch/nn/module.h>
#include <torch/ordered_dict.h>
#include <torch/types.h>

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "moe/checkpoint/element_type.h"
#include "moe/checkpoint/safetensors_file.h"
#include "moe/checkpoint/safetensors_writer.h"

namespace moe {

/// Tensors by name, in order: parameters and buffers of a module, or the content of a file.
using StateDict = torch::OrderedDict<std::string, torch::Tensor>;

/// How `save_safetensors` and `write_state_dict` write.
struct SaveOptions {
  /// Type in which floating-point tensors are stored; by default each keeps its own.
  std::optional<torch::ScalarType> dtype;
  /// Text to store with the tensors.
  std::map<std::string, std::string> metadata;
};

/// How `load_safetensors` reads.
struct LoadOptions {
  /// Throw when the module or the file has a tensor that the other lacks.
  bool strict = true;
  /// Allow tensors of another type than the module's: floating point is rounded to floating
  /// point, everything else must keep its values.
  bool convert = true;
};

/// What `load_safetensors` did.
struct LoadReport {
  std::vector<std::string> loaded;
  std::vector<std::string> missing;    ///< in the module, not in the file; left unchanged
  std::vector<std::string> unexpected; ///< in the file, not in the module; ignored
  std::vector<std::string> converted;  ///< "name: BF16 to Float"
};

/// The parameters and buffers of a module by name. They share the module's memory and are
/// detached from its graph.
StateDict state_dict(const torch::nn::Module& module);

/// Writes the parameters and buffers of any module to a safetensors file, under the names of
/// `named_parameters()` and `named_buffers()`. The file is complete or not there.
///
/// A tensor with several names (tied weights) is stored under the first, the others are noted
/// in the metadata as Python's `safetensors.torch.save_model` does. Of a view only its own
/// elements are written. Throws `Error` for the file system's failures.
///
/// Example:
/// ```
/// moe::save_safetensors(*model, "weights.safetensors");
/// ```
void save_safetensors(
    const torch::nn::Module& module,
    const std::filesystem::path& path,
    const SaveOptions& options = {});

/// Copies a safetensors file into the parameters and buffers of any module. `path` may also be
/// an index of several files or a folder, as for `SafetensorsFolder`.
///
/// Everything is checked first: when it throws, the module is unchanged. One `Error` names all
/// missing, unexpected and misshaped tensors.
///
/// Example:
/// ```
/// moe::LoadReport report = moe::load_safetensors(*model, "weights.safetensors");
/// ```
LoadReport load_safetensors(
    torch::nn::Module& module,
    const std::filesystem::path& path,
    const LoadOptions& options = {});

/// The tensors of a file, index or folder, in the order of their data. They share the memory of
/// the mapped file (changing them does not change the file), which is read when first touched;
/// a tensor that is not aligned is copied. Throws `Error` for types that LibTorch lacks (F4,
/// F6).
StateDict read_state_dict(const std::filesystem::path& path);

/// Writes tensors to a safetensors file, like `save_safetensors`, each under its own name.
void write_state_dict(
    const StateDict& tensors,
    const std::filesystem::path& path,
    const SaveOptions& options = {});

/// A tensor that shares the memory of `entry`, which `owner` keeps alive; a copy where the
/// memory is not aligned.
torch::Tensor view_tensor(const TensorEntry& entry, std::shared_ptr<void> owner);

/// A tensor to be written, converted to `type` when its turn comes.
TensorSource tensor_source(
    const std::string& name, torch::Tensor tensor, torch::ScalarType type);

/// The type in a safetensors file of a LibTorch type, and back; throws `Error` where there is
/// none.
ElementType element_type(torch::ScalarType type);
torch::ScalarType scalar_type(ElementType type);

} // namespace moe
