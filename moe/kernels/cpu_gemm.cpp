#include "moe/kernels/cpu_gemm.h"

#include <ATen/native/CPUBlas.h>

#include <algorithm>

namespace moe::cpu {
namespace {

// Columns are 128 at most, so a slab of b takes 128 KiB: half of the smallest second-level
// cache in use, or less.
constexpr int64_t kSlabDepth = 256;

} // namespace

void gemm(
    int64_t rows,
    int64_t columns,
    int64_t depth,
    ConstMatrix a,
    ConstMatrix b,
    Matrix c,
    Store store) {
  bool add = store == Store::add;
  for (int64_t k = 0; k < depth; k += kSlabDepth) {
    // Float kernels keep no state of the processor, so there is nothing to release afterwards.
    at::native::cpublas::brgemm(
        rows,
        columns,
        std::min(kSlabDepth, depth - k),
        a.stride,
        b.stride,
        c.stride,
        add,
        a.data + k,
        b.data + k * b.stride,
        c.data,
        /*is_vnni=*/false);
    add = true;
  }
}

} // namespace moe::cpu
