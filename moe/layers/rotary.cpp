#include "moe/layers/rotary.h"

#include "moe/libtorch.h"

namespace moe {

RotaryTable rotary_table(
    int64_t first,
    int64_t length,
    int64_t head_dim,
    double theta,
    const torch::TensorOptions& type) {
  TORCH_CHECK(head_dim % 2 == 0, "rotary_table: head_dim (", head_dim, ") must be even");
  const auto exponent = torch::arange(0, head_dim, 2, type) / static_cast<double>(head_dim);
  const auto frequency = torch::pow(theta, exponent).reciprocal(); // [head_dim / 2]
  const auto position = torch::arange(first, first + length, type);
  const auto angle = torch::outer(position, frequency);
  return {angle.cos(), angle.sin()};
}

torch::Tensor apply_rotary(const torch::Tensor& input, const RotaryTable& table) {
  const auto halves = input.chunk(2, /*dim=*/-1);
  const auto cos = table.cos.unsqueeze(1); // [S, 1, head_dim / 2]
  const auto sin = table.sin.unsqueeze(1);
  const auto turned = torch::cat(
      {halves[0] * cos - halves[1] * sin, halves[1] * cos + halves[0] * sin}, /*dim=*/-1);
  return turned.to(input.scalar_type());
}

} // namespace moe
