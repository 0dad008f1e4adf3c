#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "moe/checkpoint/element_type.h"

namespace moe {

/// Takes the next bytes of a tensor.
using ByteSink = std::function<void(std::span<const std::byte>)>;

/// A tensor to be written. `write` is called once, when the file has come to this tensor, and
/// passes all its bytes to the sink in one or more pieces; so tensors may be converted or
/// fetched one at a time.
struct TensorSource {
  std::string name;
  ElementType type = ElementType::f32;
  std::vector<int64_t> shape;
  std::function<void(const ByteSink&)> write;
};

/// A tensor whose bytes lie in memory. They must stay there until the file is written.
TensorSource tensor_source(
    std::string name,
    ElementType type,
    std::vector<int64_t> shape,
    std::span<const std::byte> bytes);

/// Writes a safetensors file through an `AtomicFile`: complete, or not at all.
///
/// The order is that of the reference implementation: wider types first, then by name; the same
/// tensors always give the same bytes. Throws `Error` for a name that occurs twice or is
/// reserved, for a source that gives another number of bytes than its shape needs, and when the
/// disk is full.
void write_safetensors(
    const std::filesystem::path& path,
    std::vector<TensorSource> tensors,
    const std::map<std::string, std::string>& metadata = {});

/// Writes `model.safetensors`, or shards of at most `max_shard_bytes` (a larger tensor gets one
/// of its own) with `model.safetensors.index.json`, into `folder`. 0 means one file.
void write_safetensors_folder(
    const std::filesystem::path& folder,
    std::vector<TensorSource> tensors,
    const std::map<std::string, std::string>& metadata = {},
    int64_t max_shard_bytes = 0);

} // namespace moe
