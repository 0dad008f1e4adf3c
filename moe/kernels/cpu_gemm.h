#pragma once

#include <cstdint>

// Private to moe/kernels/cpu_*.cpp; not installed.

namespace moe::cpu {

/// A row-major matrix of which only the address and the distance of its rows are known.
struct ConstMatrix {
  const float* data;
  int64_t stride;
};
struct Matrix {
  float* data;
  int64_t stride;
};

/// Whether `c` is written or added to.
enum class Store { overwrite, add };

/// c [rows, columns] = or += a [rows, depth] · b [depth, columns], on the calling thread.
///
/// LibTorch's own micro-kernels: oneDNN's for AVX2, AVX-512 and later, chosen at run time;
/// where there are none (other processors, oneDNN switched off) LibTorch takes its BLAS. They
/// are fastest when `b` is contiguous and fits half of the second-level cache; `a` may lie
/// anywhere.
void gemm(
    int64_t rows,
    int64_t columns,
    int64_t depth,
    ConstMatrix a,
    ConstMatrix b,
    Matrix c,
    Store store);

} // namespace moe::cpu
