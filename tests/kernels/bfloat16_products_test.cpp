#include "moe/kernels/cpu_bfloat16.h"
#include "moe/kernels/cpu_gemm.h"
#include "moe/kernels/cpu_row_tiles.h"
#include "moe/kernels/cpu_rows.h"
#include "moe/libtorch.h"
#include "tests/support/catch.h"
#include "tests/support/tensor_matchers.h"

namespace {

using namespace moe::testing;
using moe::cpu::BFloat16Products;
using moe::cpu::Store;

const uint16_t* halves_of(const torch::Tensor& tensor) {
  return static_cast<const uint16_t*>(tensor.const_data_ptr());
}

uint16_t* mutable_halves_of(const torch::Tensor& tensor) {
  return static_cast<uint16_t*>(tensor.mutable_data_ptr());
}

/// [depth, columns] as pairs [depth / 2, columns, 2].
torch::Tensor pairs_of(const torch::Tensor& matrix) {
  return matrix.view({matrix.size(0) / 2, 2, matrix.size(1)}).transpose(1, 2).contiguous();
}

/// Numbers of all sizes, half-way cases, infinities and NaN.
torch::Tensor numbers(torch::IntArrayRef shape) {
  torch::manual_seed(3);
  const auto bits =
      torch::randint(std::numeric_limits<int32_t>::min(), 1LL << 31, shape, torch::kInt64)
          .to(torch::kInt32);
  const auto halfway = bits.bitwise_and(~0xFFFF).bitwise_or(0x8000);
  const auto chosen = torch::where(torch::rand(shape) < 0.5, bits, halfway);
  return chosen.view(torch::kFloat32);
}

TEST_CASE("Rows are rounded to bfloat16 and back as the type does it", "[kernels]") {
  const int64_t count = GENERATE(1, 7, 64, 1000);
  const auto wide = numbers({count});
  const auto expected = wide.to(torch::kBFloat16);
  const auto narrow = torch::empty_like(expected);
  moe::cpu::round_row(wide.const_data_ptr<float>(), count, mutable_halves_of(narrow));
  const auto back = torch::empty_like(wide);
  moe::cpu::widen_row(halves_of(narrow), count, back.mutable_data_ptr<float>());
  CHECK(torch::equal(back.isnan(), wide.isnan()));
  CHECK(torch::equal(back.nan_to_num(), expected.to(torch::kFloat32).nan_to_num()));
}

TEST_CASE("Pairs hold two rows side by side", "[kernels]") {
  const int64_t columns = GENERATE(1, 16, 33);
  const auto matrix = torch::randn({6, columns});
  const auto expected = pairs_of(matrix.to(torch::kBFloat16));
  const auto pairs = torch::empty_like(expected);
  moe::cpu::round_to_pairs(
      matrix.const_data_ptr<float>(), 6, columns, mutable_halves_of(pairs));
  CHECK(torch::equal(pairs, expected));

  const auto alone = torch::empty({columns, 2}, torch::kBFloat16);
  moe::cpu::round_to_pair(
      matrix.const_data_ptr<float>(), nullptr, columns, mutable_halves_of(alone));
  CHECK(torch::equal(alone.select(1, 0), expected[0].select(1, 0)));
  CHECK(alone.select(1, 1).count_nonzero().item<int64_t>() == 0);

  const auto back = torch::empty({2, columns});
  float* const rows = back.mutable_data_ptr<float>();
  moe::cpu::widen_pair(halves_of(pairs[1]), columns, rows, rows + columns);
  CHECK(torch::equal(back, matrix.narrow(0, 2, 2).to(torch::kBFloat16).to(torch::kFloat32)));
}

TEST_CASE("Rows of tokens are gathered as pairs", "[kernels]") {
  const int64_t rows = GENERATE(1, 16, 21, 128);
  const int64_t width = GENERATE(2, 18, 256, 600);
  CAPTURE(rows, width);
  const auto tokens = torch::randn({40, width});
  const auto row_token = torch::randint(40, {rows + 3}, torch::kInt32);
  const int64_t lanes = (rows + 15) / 16 * 16;
  const moe::cpu::RowTile tile{
      .expert = 0, .first_row = 3, .rows = rows, .lanes = lanes, .first_lane = 0};
  const auto pairs = torch::ones({width / 2, lanes, 2}, torch::kBFloat16);
  moe::cpu::gather_transposed(
      tile,
      row_token.const_data_ptr<int32_t>(),
      tokens.const_data_ptr<float>(),
      width,
      mutable_halves_of(pairs));
  const auto gathered = torch::zeros({width, lanes});
  gathered.narrow(1, 0, rows).copy_(tokens.index_select(0, row_token.narrow(0, 3, rows)).t());
  CHECK(torch::equal(pairs, pairs_of(gathered.to(torch::kBFloat16))));
}

TEST_CASE("Products of bfloat16 are exact but for the order of sums", "[kernels]") {
  const auto how = GENERATE(BFloat16Products::widened, BFloat16Products::native);
  if (how == BFloat16Products::native && !moe::cpu::has_native_bfloat16_products()) {
    WARN("no native products of bfloat16 here: not tested");
    return;
  }
  const int64_t rows = GENERATE(1, 5, 64, 100, 512);
  const int64_t columns = GENERATE(16, 48, 128);
  const int64_t depth = GENERATE(2, 16, 130, 600);
  const auto store = GENERATE(Store::overwrite, Store::add);
  CAPTURE(rows, columns, depth, store == Store::add);
  const auto a = torch::randn({rows, depth + 6}).to(torch::kBFloat16);
  const auto b = torch::randn({depth, columns}).to(torch::kBFloat16);
  const auto pairs = pairs_of(b);
  const auto c = torch::ones({rows + 1, columns + 3});
  moe::cpu::gemm(
      rows,
      columns,
      depth,
      {halves_of(a), a.stride(0)},
      {halves_of(pairs), columns},
      {c.mutable_data_ptr<float>(), c.stride(0)},
      store,
      how);
  auto expected = torch::ones({rows + 1, columns + 3}, torch::kFloat64);
  expected.narrow(0, 0, rows).narrow(1, 0, columns) =
      torch::matmul(a.narrow(1, 0, depth).to(torch::kFloat64), b.to(torch::kFloat64)) +
      (store == Store::add ? 1.0 : 0.0);
  CHECK_THAT(c, AllClose(expected, 1e-6));
  CHECK(torch::equal(c[rows], torch::ones_like(c[rows])));
  CHECK(torch::equal(c.narrow(1, columns, 3), torch::ones({rows + 1, 3})));
}

} // namespace
