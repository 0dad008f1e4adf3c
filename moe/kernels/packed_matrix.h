#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

namespace moe {

/// How generation stores the weights of a model.
enum class WeightType {
  float32,
  bfloat16, ///< the upper half of a float32, rounded to nearest even
  int8,     ///< whole numbers from -127 to 127, a float32 scale per group of 64 in a row
};

/// The name by which flags and reports call a type ("int8").
std::string_view weight_type_name(WeightType type);

/// The inverse of `weight_type_name`; throws `Error` naming the known ones.
WeightType weight_type_from_name(std::string_view name);

/// Weights of a row that share a scale in `WeightType::int8`.
constexpr int64_t kWeightGroup = 64;

/// A weight matrix [rows, columns] as products with single vectors read it, row by row. A value
/// that is cheap to copy: copies share the weights.
struct PackedMatrix {
  WeightType type = WeightType::float32;
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t stride = 0; ///< from row to row; a multiple of 64 unless float32, filled with zeros
  std::shared_ptr<const void> weights; ///< float, uint16_t or int8_t [rows, stride]
  std::shared_ptr<const float> scales; ///< int8: [rows, stride / 64]

  /// Bytes that one row takes, scales included.
  int64_t row_bytes() const;
  /// Bytes of all rows.
  int64_t bytes() const {
    return rows * row_bytes();
  }
};

/// A view of float32 weights [rows, columns]; `weights` keeps them alive.
PackedMatrix view_matrix(std::shared_ptr<const float> weights, int64_t rows, int64_t columns);

/// A copy of `weights` [rows, columns] in another type. Infinite and NaN weights have no int8:
/// throws `Error`.
PackedMatrix pack_matrix(const float* weights, int64_t rows, int64_t columns, WeightType type);

/// Writes `num_rows` rows from `first_row` on as float32, [num_rows, columns]: exactly what
/// products with the matrix compute with.
void unpack_rows(
    const PackedMatrix& matrix, int64_t first_row, int64_t num_rows, float* weights);

/// A vector as products read it.
struct PackedVector {
  const float* values = nullptr;      ///< [columns]; padded with zeros to `padded_columns`
  const int16_t* quantized = nullptr; ///< int8 only: values / scale, rounded
  float scale = 0.0F;                 ///< int8 only
};

/// Numbers that a vector for a matrix of `columns` columns takes: a multiple of 64.
int64_t padded_columns(int64_t columns);

/// Makes a vector ready for matrices of `type`. `values` [padded_columns(columns)] ends with
/// zeros; `quantized` has the same size and is written for int8 only. A vector of int8 products
/// keeps 15 bits besides its sign, so that what the products lose comes from the weights alone.
PackedVector pack_vector(
    WeightType type, int64_t columns, const float* values, int16_t* quantized);

/// out[i] = row first_row + i of `matrix` times `vector`, for i < num_rows.
///
/// Written for AVX2, which is taken where the processor has it; else `multiply_rows_portable`.
void multiply_rows(
    const PackedMatrix& matrix,
    int64_t first_row,
    int64_t num_rows,
    const PackedVector& vector,
    float* out);

/// The same in plain C++.
void multiply_rows_portable(
    const PackedMatrix& matrix,
    int64_t first_row,
    int64_t num_rows,
    const PackedVector& vector,
    float* out);

} // namespace moe
