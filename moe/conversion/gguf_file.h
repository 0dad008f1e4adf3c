#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace moe {

/// How a tensor's elements are stored in a GGUF file.
enum class GgufType : uint32_t {
  f32 = 0,
  q8_0 = 8, ///< blocks of 32: a float16 scale and 32 signed bytes
  bf16 = 30,
};

/// "f32", "bf16" or "q8_0". Throws `Error` for another name.
GgufType gguf_type(const std::string& name);

/// A value of a file's metadata.
using GgufValue = std::variant<
    uint32_t,
    float,
    bool,
    std::string,
    std::vector<std::string>,
    std::vector<int32_t>,
    std::vector<float>,
    std::vector<bool>>;

/// Metadata of a GGUF file: key and value, in the order of the file.
using GgufMetadata = std::vector<std::pair<std::string, GgufValue>>;

/// Takes some elements of a tensor: whole rows.
using GgufSink = std::function<void(std::span<const float>)>;

/// A tensor to be written. `give_values` is called once, when its turn comes, and gives all
/// elements to the sink in C order, as many at a time as it likes.
struct GgufTensor {
  std::string name;
  std::vector<int64_t> shape; ///< as LibTorch has it: the last dimension is contiguous
  GgufType type = GgufType::f32;
  std::function<void(const GgufSink&)> give_values;
};

/// Encodes elements: float32 as they are, bfloat16 rounded to nearest even, q8_0 with the scale
/// max |x| / 127 per block. Throws `Error` where elements do not fill whole blocks.
std::vector<std::byte> encode_gguf(std::span<const float> values, GgufType type);

/// Writes a GGUF file of version 3 through an `AtomicFile`: complete, or not at all.
/// Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
void write_gguf(
    const std::filesystem::path& path,
    const GgufMetadata& metadata,
    const std::vector<GgufTensor>& tensors);

} // namespace moe
