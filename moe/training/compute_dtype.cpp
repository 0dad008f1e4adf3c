#include "moe/training/compute_dtype.h"

namespace moe {

std::string resolve_dtype(
    const std::string& dtype, const std::string& device, BFloat16Instructions instructions) {
  if (dtype != "auto") {
    return dtype;
  }
  return device == "cpu" && instructions == BFloat16Instructions::faster ? "bfloat16"
                                                                         : "float32";
}

std::string dtype_warning(
    const std::string& dtype, const std::string& device, BFloat16Instructions instructions) {
  if (dtype != "bfloat16" || device != "cpu") {
    return "";
  }
  switch (instructions) {
    case BFloat16Instructions::none:
      return "this processor has no bfloat16 instructions: --dtype bfloat16 will be much "
             "slower than float32";
    case BFloat16Instructions::slower:
      return "this processor multiplies bfloat16 at half the rate of float32: --dtype float32 "
             "is faster";
    case BFloat16Instructions::unknown:
    case BFloat16Instructions::faster:
      return "";
  }
  return "";
}

} // namespace moe
