#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace moe {

/// The type of a tensor's elements in a safetensors file.
enum class ElementType {
  boolean,
  f4,
  f6_e2m3,
  f6_e3m2,
  u8,
  i8,
  f8_e5m2,
  f8_e4m3,
  f8_e8m0,
  f8_e4m3fnuz,
  f8_e5m2fnuz,
  i16,
  u16,
  f16,
  bf16,
  i32,
  u32,
  f32,
  c64,
  f64,
  i64,
  u64,
};

/// The name of a type as the format writes it ("BF16").
std::string_view element_type_name(ElementType type);

/// The inverse of `element_type_name`; throws `Error` for a name that the format does not have.
ElementType element_type_from_name(std::string_view name);

/// Bits of one element: 4 to 64.
int64_t element_bits(ElementType type);

/// Bytes of a tensor of this type and shape, or nothing when a size is negative, the product
/// does not fit 63 bits, or the elements do not fill whole bytes.
std::optional<int64_t> tensor_bytes(ElementType type, const std::vector<int64_t>& shape);

} // namespace moe
