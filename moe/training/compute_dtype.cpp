#include "moe/training/compute_dtype.h"

namespace moe {

std::string resolve_dtype(const std::string& dtype) {
  return dtype == "auto" ? "float32" : dtype;
}

bool cpu_multiplies_bfloat16() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512bf16") != 0;
#else
  return true;
#endif
}

std::string dtype_warning(
    const std::string& dtype, const std::string& device, bool multiplies_bfloat16) {
  if (dtype == "bfloat16" && device == "cpu" && !multiplies_bfloat16) {
    return "this processor has no bfloat16 instructions: --dtype bfloat16 will be much slower "
           "than float32";
  }
  return "";
}

} // namespace moe
