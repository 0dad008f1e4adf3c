#include "moe/kernels/packed_matrix.h"

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "tests/support/catch.h"

using namespace moe;

namespace {

std::vector<float> normal_numbers(int64_t count, uint32_t seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<float> numbers(static_cast<size_t>(count));
  for (float& number : numbers) {
    number = normal(generator);
  }
  return numbers;
}

struct Case {
  PackedMatrix matrix;
  std::vector<float> weights; // [rows, columns], as given
  std::vector<float> values;  // [padded_columns]
  std::vector<int16_t> quantized;
  PackedVector vector;
};

Case make_case(WeightType type, int64_t rows, int64_t columns) {
  Case made;
  made.weights = normal_numbers(rows * columns, 1);
  made.values = normal_numbers(columns, 2);
  made.values.resize(static_cast<size_t>(padded_columns(columns)), 0.0F);
  made.quantized.resize(made.values.size());
  made.matrix = pack_matrix(made.weights.data(), rows, columns, type);
  made.vector = pack_vector(type, columns, made.values.data(), made.quantized.data());
  return made;
}

/// |a - b| / |b|.
double relative_error(const std::vector<float>& a, const std::vector<double>& b) {
  double difference = 0.0;
  double norm = 0.0;
  for (size_t i = 0; i < b.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  return std::sqrt(difference / norm);
}

std::vector<float> unpacked(const PackedMatrix& matrix) {
  std::vector<float> weights(static_cast<size_t>(matrix.rows * matrix.columns));
  unpack_rows(matrix, 0, matrix.rows, weights.data());
  return weights;
}

} // namespace

TEST_CASE("multiply_rows: the product of what unpack_rows shows, on both paths", "[kernels]") {
  const auto type = GENERATE(WeightType::float32, WeightType::bfloat16, WeightType::int8);
  const auto columns = GENERATE(int64_t{1}, 17, 64, 100, 192, 256);
  const auto rows = GENERATE(int64_t{1}, 3, 4, 11);
  CAPTURE(weight_type_name(type), columns, rows);
  const auto made = make_case(type, rows, columns);
  const auto weights = unpacked(made.matrix);
  std::vector<double> expected(static_cast<size_t>(rows));
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t i = 0; i < columns; ++i) {
      expected[row] += double{weights[row * columns + i]} * made.values[i];
    }
  }
  // The vector of int8 products has 15 bits, and a single product may be a small difference.
  const double tolerance = type == WeightType::int8 ? 1e-3 : 5e-6;
  std::vector<float> fast(static_cast<size_t>(rows));
  multiply_rows(made.matrix, 0, rows, made.vector, fast.data());
  CHECK(relative_error(fast, expected) < tolerance);
  std::vector<float> portable(static_cast<size_t>(rows));
  multiply_rows_portable(made.matrix, 0, rows, made.vector, portable.data());
  CHECK(relative_error(portable, expected) < tolerance);
}

TEST_CASE("multiply_rows: any range of rows is that of the whole", "[kernels]") {
  const auto type = GENERATE(WeightType::float32, WeightType::bfloat16, WeightType::int8);
  const auto made = make_case(type, 23, 128);
  std::vector<float> all(23);
  multiply_rows(made.matrix, 0, 23, made.vector, all.data());
  for (int64_t first = 0; first < 23; ++first) {
    std::vector<float> rest(static_cast<size_t>(23 - first));
    multiply_rows(made.matrix, first, 23 - first, made.vector, rest.data());
    CHECK(std::equal(rest.begin(), rest.end(), all.begin() + first));
  }
}

TEST_CASE("pack_matrix: how much of the weights each type keeps", "[kernels]") {
  const auto weights = normal_numbers(64 * 256, 3);
  const auto lost = [&](WeightType type) {
    const auto kept = unpacked(pack_matrix(weights.data(), 64, 256, type));
    return relative_error(kept, {weights.begin(), weights.end()});
  };
  CHECK(lost(WeightType::float32) == 0.0);
  // Half a unit in the last place: 2^-9 at most, 2^-9 / sqrt(3) in the mean or less.
  CHECK(lost(WeightType::bfloat16) < 2e-3);
  CHECK(lost(WeightType::bfloat16) > 1e-3);
  // A step is the largest of 64 over 127, about 2.6 / 127; its error a step / sqrt(12).
  CHECK(lost(WeightType::int8) < 7e-3);
  CHECK(lost(WeightType::int8) > 5e-3);
}

TEST_CASE("pack_matrix: bfloat16 rounds to nearest even as the type does", "[kernels]") {
  const std::vector<float> weights{
      1.0F, 1.00390625F, 1.01171875F, -3.0e38F, 1.0e-40F, 65504.0F, 0.0F, -0.0F};
  const auto kept = unpacked(pack_matrix(weights.data(), 1, 8, WeightType::bfloat16));
  CHECK(kept[0] == 1.0F);
  CHECK(kept[1] == 1.0F);      // halfway between 1 and 1.0078125: to the even one
  CHECK(kept[2] == 1.015625F); // halfway, up to the even one
  CHECK(kept[5] == 65536.0F);
  CHECK(std::signbit(kept[7]));
}

TEST_CASE("pack_matrix: int8 of zeros, of one outlier, of what has no number", "[kernels]") {
  std::vector<float> weights(128, 0.0F);
  CHECK(unpacked(pack_matrix(weights.data(), 1, 128, WeightType::int8)) == weights);
  weights[3] = -1000.0F;
  weights[70] = 0.5F;
  const auto kept = unpacked(pack_matrix(weights.data(), 1, 128, WeightType::int8));
  CHECK(kept[3] == -1000.0F);
  CHECK(kept[70] == 0.5F); // another group, another scale
  weights[5] = std::numeric_limits<float>::infinity();
  REQUIRE_THROWS_WITH(
      pack_matrix(weights.data(), 1, 128, WeightType::int8), ContainsSubstring("inf"));
}

TEST_CASE("PackedMatrix: bytes include scales and padding", "[kernels]") {
  const auto weights = normal_numbers(10 * 100, 4);
  const auto bytes = [&](WeightType type) {
    return pack_matrix(weights.data(), 10, 100, type).bytes();
  };
  CHECK(bytes(WeightType::float32) == 10 * 400);
  CHECK(bytes(WeightType::bfloat16) == 10 * 256);
  CHECK(bytes(WeightType::int8) == 10 * (128 + 2 * 4));
}

TEST_CASE("weight types: names and back", "[kernels]") {
  for (const auto type : {WeightType::float32, WeightType::bfloat16, WeightType::int8}) {
    CHECK(weight_type_from_name(weight_type_name(type)) == type);
  }
  REQUIRE_THROWS_WITH(
      weight_type_from_name("int4"), ContainsSubstring("int4") && ContainsSubstring("int8"));
}
