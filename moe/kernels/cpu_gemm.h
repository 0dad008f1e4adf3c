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
/// The same of bfloat16: row by row, or in pairs (cpu_bfloat16.h), where a pair of rows begins
/// 2 · stride after the one before.
struct ConstBFloat16Matrix {
  const uint16_t* data;
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

/// How products of bfloat16 are computed. Sums are float32 in both.
enum class BFloat16Products {
  native,  ///< oneDNN's micro-kernels for the instructions of AVX-512 and AMX
  widened, ///< as float32 products, a block at a time; any processor
};

/// Whether this processor and this LibTorch have native products of bfloat16.
bool has_native_bfloat16_products();

/// The faster way here, by the processor's features: AMX and AMD's AVX-512 multiply bfloat16 at
/// twice the rate of float32 or more, Intel's AVX-512 at half of it.
BFloat16Products fastest_bfloat16_products();

/// The same of bfloat16: `a` row by row, `b` in pairs; `columns` at most kMaxBFloat16Columns.
void gemm(
    int64_t rows,
    int64_t columns,
    int64_t depth,
    ConstBFloat16Matrix a,
    ConstBFloat16Matrix b,
    Matrix c,
    Store store,
    BFloat16Products how = fastest_bfloat16_products());

constexpr int64_t kMaxBFloat16Columns = 160;

/// While it lives a thread may multiply; at its end the thread's matrix registers, which native
/// products of bfloat16 configure, are as before.
class MatrixRegisters {
 public:
  MatrixRegisters() = default;
  ~MatrixRegisters();
  MatrixRegisters(const MatrixRegisters&) = delete;
  MatrixRegisters& operator=(const MatrixRegisters&) = delete;
};

} // namespace moe::cpu
