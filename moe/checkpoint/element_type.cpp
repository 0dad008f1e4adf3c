#include "moe/checkpoint/element_type.h"

#include <array>

#include "moe/error.h"
#include "moe/files/quote_internal.h"

namespace moe {
namespace {

struct TypeRow {
  std::string_view name;
  int64_t bits;
};

// In the order of ElementType.
constexpr std::array<TypeRow, 22> kTypes{{
    {"BOOL", 8},        {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"U8", 8},
    {"I8", 8},          {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8},
    {"F8_E5M2FNUZ", 8}, {"I16", 16},    {"U16", 16},    {"F16", 16},    {"BF16", 16},
    {"I32", 32},        {"U32", 32},    {"F32", 32},    {"C64", 64},    {"F64", 64},
    {"I64", 64},        {"U64", 64},
}};
static_assert(kTypes.size() == static_cast<size_t>(ElementType::u64) + 1);

} // namespace

std::string_view element_type_name(ElementType type) {
  return kTypes.at(static_cast<size_t>(type)).name;
}

ElementType element_type_from_name(std::string_view name) {
  for (size_t i = 0; i < kTypes.size(); ++i) {
    if (kTypes[i].name == name) {
      return static_cast<ElementType>(i);
    }
  }
  fail("dtype ", quote(name), " does not exist; there are BOOL, U8, I64, F16, BF16, F32, ...");
}

int64_t element_bits(ElementType type) {
  return kTypes.at(static_cast<size_t>(type)).bits;
}

std::optional<int64_t> tensor_bytes(ElementType type, const std::vector<int64_t>& shape) {
  int64_t elements = 1;
  for (const int64_t size : shape) {
    if (size < 0 || __builtin_mul_overflow(elements, size, &elements)) {
      return std::nullopt;
    }
  }
  int64_t bits = 0;
  if (__builtin_mul_overflow(elements, element_bits(type), &bits) || bits % 8 != 0) {
    return std::nullopt;
  }
  return bits / 8;
}

} // namespace moe
