#include "moe/kernels/bfloat16_instructions.h"

#ifdef __x86_64__
#include <cpuid.h>
#endif

namespace moe {

BFloat16Instructions bfloat16_instructions() {
#ifdef __x86_64__
  if (__builtin_cpu_supports("avx512bf16") == 0) {
    return BFloat16Instructions::none;
  }
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  constexpr unsigned kMatrixRegistersOfBFloat16 = 1U << 22;
  const bool matrix_registers =
      __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (d & kMatrixRegistersOfBFloat16) != 0;
  return matrix_registers || __builtin_cpu_is("amd") != 0 ? BFloat16Instructions::faster
                                                          : BFloat16Instructions::slower;
#else
  return BFloat16Instructions::unknown;
#endif
}

} // namespace moe
