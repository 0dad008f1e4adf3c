#include "moe/kernels/cpu_gemm.h"

#include <ATen/Context.h>
#include <ATen/native/CPUBlas.h>

#include <algorithm>
#include <array>

#include "moe/kernels/bfloat16_instructions.h"
#include "moe/kernels/cpu_bfloat16.h"

namespace moe::cpu {
namespace {

// Columns are 128 at most, so a slab of b takes 128 KiB: half of the smallest second-level
// cache in use, or less.
constexpr int64_t kSlabDepth = 256;

void multiply_natively(
    int64_t rows,
    int64_t columns,
    int64_t depth,
    ConstBFloat16Matrix a,
    ConstBFloat16Matrix b,
    Matrix c,
    bool add) {
  at::native::cpublas::brgemm(
      rows,
      columns,
      depth,
      a.stride,
      b.stride,
      c.stride,
      add,
      reinterpret_cast<const at::BFloat16*>(a.data),
      reinterpret_cast<const at::BFloat16*>(b.data),
      c.data,
      /*is_vnni=*/true);
}

/// A product of ones tells whether LibTorch was built with the micro-kernels, which it does not
/// say, and whether oneDNN takes the processor for one that has the instructions.
bool try_native_product() {
  constexpr int64_t kSize = 16;
  std::array<uint16_t, kSize * kSize> ones{};
  ones.fill(0x3F80);
  std::array<float, kSize * kSize> sums{};
  try {
    const MatrixRegisters registers;
    multiply_natively(
        kSize,
        kSize,
        kSize,
        {ones.data(), kSize},
        {ones.data(), kSize},
        {sums.data(), kSize},
        /*add=*/false);
  } catch (const c10::Error&) {
    return false;
  }
  return std::all_of(sums.begin(), sums.end(), [](float sum) { return sum == kSize; });
}

bool has_instructions() {
  const auto instructions = bfloat16_instructions();
  return instructions == BFloat16Instructions::slower ||
         instructions == BFloat16Instructions::faster;
}

// A block of `a` takes 32 KiB as float32, a slab of `b` 80 KiB.
constexpr int64_t kWideRows = 64;
constexpr int64_t kWideDepth = 128;

void multiply_widened(
    int64_t rows,
    int64_t columns,
    int64_t depth,
    ConstBFloat16Matrix a,
    ConstBFloat16Matrix b,
    Matrix c,
    bool add) {
  std::array<float, kWideRows * kWideDepth> left;
  std::array<float, kWideDepth * kMaxBFloat16Columns> right;
  for (int64_t row = 0; row < depth; row += 2) {
    float* const wide = right.data() + row * columns;
    widen_pair(b.data + row * b.stride, columns, wide, wide + columns);
  }
  for (int64_t row = 0; row < rows; row += kWideRows) {
    const auto count = std::min(kWideRows, rows - row);
    for (int64_t i = 0; i < count; ++i) {
      widen_row(a.data + (row + i) * a.stride, depth, left.data() + i * depth);
    }
    gemm(
        count,
        columns,
        depth,
        {left.data(), depth},
        {right.data(), columns},
        {c.data + row * c.stride, c.stride},
        add ? Store::add : Store::overwrite);
  }
}

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

bool has_native_bfloat16_products() {
  static const bool has_them = has_instructions() && try_native_product();
  return has_them && at::globalContext().userEnabledMkldnn();
}

BFloat16Products fastest_bfloat16_products() {
  static const bool is_faster = bfloat16_instructions() == BFloat16Instructions::faster;
  return is_faster && has_native_bfloat16_products() ? BFloat16Products::native
                                                     : BFloat16Products::widened;
}

void gemm(
    int64_t rows,
    int64_t columns,
    int64_t depth,
    ConstBFloat16Matrix a,
    ConstBFloat16Matrix b,
    Matrix c,
    Store store,
    BFloat16Products how) {
  bool add = store == Store::add;
  const bool native = how == BFloat16Products::native;
  const auto slab = native ? 2 * kSlabDepth : kWideDepth;
  const auto multiply = native ? multiply_natively : multiply_widened;
  for (int64_t k = 0; k < depth; k += slab) {
    multiply(
        rows,
        columns,
        std::min(slab, depth - k),
        {a.data + k, a.stride},
        {b.data + k * b.stride, b.stride},
        c,
        add);
    add = true;
  }
}

MatrixRegisters::~MatrixRegisters() {
  static const bool has_registers = has_instructions();
  if (has_registers) {
    at::native::cpublas::brgemm_release();
  }
}

} // namespace moe::cpu
