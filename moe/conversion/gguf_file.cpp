#include "moe/conversion/gguf_file.h"

#include <bit>
#include <cmath>
#include <cstring>

#include "moe/error.h"
#include "moe/files/atomic_file.h"
#include "moe/kernels/bfloat16.h"

namespace moe {
namespace {

constexpr uint32_t kVersion = 3;
constexpr uint64_t kAlignment = 32;
constexpr int64_t kBlock = 32; ///< elements of a q8_0 block

uint64_t aligned(uint64_t size) {
  return (size + kAlignment - 1) / kAlignment * kAlignment;
}

/// Little-endian bytes of numbers and strings.
class Bytes {
 public:
  template <class Number>
  void add(Number value) {
    char raw[sizeof(value)];
    std::memcpy(
        raw, &value, sizeof(value)); // the processors that are supported are little-endian
    text_.append(raw, sizeof(value));
  }
  void add_string(const std::string& text) {
    add<uint64_t>(text.size());
    text_ += text;
  }
  void pad() {
    text_.resize(aligned(text_.size()), '\0');
  }
  const std::string& text() const {
    return text_;
  }

 private:
  std::string text_;
};

/// The format's numbers of value types.
enum class ValueType : uint32_t {
  uint32 = 4,
  int32 = 5,
  float32 = 6,
  boolean = 7,
  string = 8,
  array = 9
};

void add_value(Bytes& bytes, const GgufValue& value) {
  const auto add_type = [&](ValueType type) { bytes.add(static_cast<uint32_t>(type)); };
  if (const auto* number = std::get_if<uint32_t>(&value)) {
    add_type(ValueType::uint32);
    bytes.add(*number);
  } else if (const auto* real = std::get_if<float>(&value)) {
    add_type(ValueType::float32);
    bytes.add(*real);
  } else if (const auto* flag = std::get_if<bool>(&value)) {
    add_type(ValueType::boolean);
    bytes.add(static_cast<uint8_t>(*flag));
  } else if (const auto* text = std::get_if<std::string>(&value)) {
    add_type(ValueType::string);
    bytes.add_string(*text);
  } else if (const auto* texts = std::get_if<std::vector<std::string>>(&value)) {
    add_type(ValueType::array);
    add_type(ValueType::string);
    bytes.add<uint64_t>(texts->size());
    for (const auto& item : *texts) {
      bytes.add_string(item);
    }
  } else if (const auto* flags = std::get_if<std::vector<bool>>(&value)) {
    add_type(ValueType::array);
    add_type(ValueType::boolean);
    bytes.add<uint64_t>(flags->size());
    for (const bool item : *flags) {
      bytes.add(static_cast<uint8_t>(item));
    }
  } else if (const auto* reals = std::get_if<std::vector<float>>(&value)) {
    add_type(ValueType::array);
    add_type(ValueType::float32);
    bytes.add<uint64_t>(reals->size());
    for (const float item : *reals) {
      bytes.add(item);
    }
  } else {
    const auto& numbers = std::get<std::vector<int32_t>>(value);
    add_type(ValueType::array);
    add_type(ValueType::int32);
    bytes.add<uint64_t>(numbers.size());
    for (const int32_t item : numbers) {
      bytes.add(item);
    }
  }
}

int64_t count_of(const GgufTensor& tensor) {
  int64_t count = 1;
  for (const int64_t size : tensor.shape) {
    count *= size;
  }
  return count;
}

uint64_t encoded_size(int64_t count, GgufType type) {
  switch (type) {
    case GgufType::f32:
      return static_cast<uint64_t>(count) * 4;
    case GgufType::bf16:
      return static_cast<uint64_t>(count) * 2;
    case GgufType::q8_0:
      break;
  }
  return static_cast<uint64_t>(count / kBlock) * (2 + kBlock);
}

/// IEEE 754 binary16, rounded to nearest even.
uint16_t to_float16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
  const float magnitude = std::fabs(value);
  if (!(magnitude < 65520.0f)) {
    return static_cast<uint16_t>(sign | (std::isnan(value) ? 0x7E00 : 0x7C00));
  }
  if (magnitude < 0x1p-14f) { // subnormal: units of 2^-24
    return static_cast<uint16_t>(
        sign | static_cast<uint16_t>(std::nearbyint(magnitude * 0x1p24f)));
  }
  const auto rounded = bits + 0xFFF + (bits >> 13 & 1);
  return static_cast<uint16_t>(sign | (((rounded & 0x7FFFFFFF) - (112u << 23)) >> 13));
}

void encode_block(std::span<const float> values, Bytes& bytes) {
  float largest = 0.0f;
  for (const float value : values) {
    largest = std::max(largest, std::fabs(value));
  }
  const float scale = largest / 127.0f;
  const float inverse = scale > 0.0f ? 1.0f / scale : 0.0f;
  bytes.add(to_float16(scale));
  for (const float value : values) {
    bytes.add(static_cast<int8_t>(std::round(value * inverse)));
  }
}

} // namespace

GgufType gguf_type(const std::string& name) {
  if (name == "f32") {
    return GgufType::f32;
  }
  if (name == "bf16") {
    return GgufType::bf16;
  }
  check(name == "q8_0", "gguf: ", name, " is not one of f32, bf16, q8_0");
  return GgufType::q8_0;
}

std::vector<std::byte> encode_gguf(std::span<const float> values, GgufType type) {
  Bytes bytes;
  if (type == GgufType::q8_0) {
    check(
        values.size() % kBlock == 0,
        "gguf: ",
        values.size(),
        " elements do not fill blocks of 32");
    for (size_t i = 0; i < values.size(); i += kBlock) {
      encode_block(values.subspan(i, kBlock), bytes);
    }
  } else {
    for (const float value : values) {
      if (type == GgufType::f32) {
        bytes.add(value);
      } else {
        bytes.add(to_bfloat16(value));
      }
    }
  }
  const auto raw = std::as_bytes(std::span(bytes.text()));
  return {raw.begin(), raw.end()};
}

void write_gguf(
    const std::filesystem::path& path,
    const GgufMetadata& metadata,
    const std::vector<GgufTensor>& tensors) {
  Bytes header;
  header.add<uint32_t>(0x46554747); // "GGUF"
  header.add(kVersion);
  header.add<uint64_t>(tensors.size());
  header.add<uint64_t>(metadata.size());
  for (const auto& [key, value] : metadata) {
    header.add_string(key);
    add_value(header, value);
  }
  uint64_t offset = 0;
  for (const auto& tensor : tensors) {
    header.add_string(tensor.name);
    header.add(static_cast<uint32_t>(tensor.shape.size()));
    for (auto size = tensor.shape.rbegin(); size != tensor.shape.rend(); ++size) {
      header.add(static_cast<uint64_t>(*size));
    }
    header.add(static_cast<uint32_t>(tensor.type));
    header.add(offset);
    offset += aligned(encoded_size(count_of(tensor), tensor.type));
  }
  header.pad();
  AtomicFile file(path);
  file.write(header.text());
  for (const auto& tensor : tensors) {
    int64_t count = 0;
    tensor.give_values([&](std::span<const float> values) {
      count += static_cast<int64_t>(values.size());
      file.write(encode_gguf(values, tensor.type));
    });
    check(
        count == count_of(tensor),
        "gguf: ",
        tensor.name,
        " has ",
        count,
        " elements, its shape has ",
        count_of(tensor));
    const auto size = encoded_size(count, tensor.type);
    file.write(std::string(aligned(size) - size, '\0'));
  }
  file.commit();
}

} // namespace moe
