#include "moe/layers/rotary.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "moe/libtorch.h"

namespace moe {
namespace {

/// theta^(2m / dim) of pair m: [dim / 2].
torch::Tensor wave_lengths(int64_t dim, double theta, const torch::TensorOptions& type) {
  const auto exponent = torch::arange(0, dim, 2, type) / static_cast<double>(dim);
  return torch::pow(theta, exponent);
}

torch::Tensor frequencies(int64_t dim, double theta, const torch::TensorOptions& type) {
  return wave_lengths(dim, theta, type).reciprocal();
}

double dynamic_theta(const RotaryForm& form, int64_t length) {
  const auto context = static_cast<double>(form.original_length);
  const double longest = std::max(static_cast<double>(length), context);
  const auto dim = static_cast<double>(form.dim);
  const double stretch = form.factor * longest / context - (form.factor - 1.0);
  return form.theta * std::pow(stretch, dim / (dim - 2.0));
}

torch::Tensor llama3_frequencies(const RotaryForm& form, const torch::TensorOptions& type) {
  const auto plain = frequencies(form.dim, form.theta, type);
  const auto original = static_cast<double>(form.original_length);
  const auto turns = plain * (original / (2.0 * std::numbers::pi)); // in the original length
  const auto kept = ((turns - form.low_frequency_factor) /
                     (form.high_frequency_factor - form.low_frequency_factor))
                        .clamp(0.0, 1.0);
  return plain * kept + plain / form.factor * (1.0 - kept);
}

torch::Tensor yarn_frequencies(const RotaryForm& form, const torch::TensorOptions& type) {
  const auto dim = static_cast<double>(form.dim);
  // The pair that makes this many turns in the original length.
  const auto pair_of = [&](double turns) {
    const auto original = static_cast<double>(form.original_length);
    return dim * std::log(original / (turns * 2.0 * std::numbers::pi)) /
           (2.0 * std::log(form.theta));
  };
  double low = pair_of(form.beta_fast);
  double high = pair_of(form.beta_slow);
  if (form.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, dim - 1.0);
  if (low == high) {
    high += 0.001;
  }
  const auto stretched =
      ((torch::arange(form.dim / 2, type) - low) / (high - low)).clamp(0.0, 1.0);
  const auto plain = frequencies(form.dim, form.theta, type);
  return plain / form.factor * stretched + plain * (1.0 - stretched);
}

double yarn_growth(double factor, double weight) {
  return factor <= 1.0 ? 1.0 : 0.1 * weight * std::log(factor) + 1.0;
}

bool is_beyond_original(const RotaryForm& form, int64_t length) {
  return length > form.original_length;
}

torch::Tensor longrope_frequencies(
    const RotaryForm& form, int64_t length, const torch::TensorOptions& type) {
  // With multipliers of their own, transformers never uses the long factors.
  const bool use_long = is_beyond_original(form, length) && form.short_multiplier == 0.0;
  const auto& factors = use_long ? form.long_factors : form.short_factors;
  return (wave_lengths(form.dim, form.theta, type) *
          torch::tensor(factors, torch::kFloat64).to(type))
      .reciprocal();
}

torch::Tensor scaled_frequencies(
    const RotaryForm& form, int64_t length, const torch::TensorOptions& type) {
  switch (form.scaling) {
    case RotaryScaling::none:
      return frequencies(form.dim, form.theta, type);
    case RotaryScaling::linear:
      return frequencies(form.dim, form.theta, type) / form.factor;
    case RotaryScaling::dynamic:
      return frequencies(form.dim, dynamic_theta(form, length), type);
    case RotaryScaling::llama3:
      return llama3_frequencies(form, type);
    case RotaryScaling::yarn:
      return yarn_frequencies(form, type);
    case RotaryScaling::longrope:
      return longrope_frequencies(form, length, type);
  }
  TORCH_CHECK(false, "rotary_table: no such scaling");
}

/// What cosines and sines are multiplied with.
double table_multiplier(const RotaryForm& form, int64_t length) {
  if (form.scaling == RotaryScaling::longrope && form.short_multiplier != 0.0) {
    return is_beyond_original(form, length) ? form.long_multiplier : form.short_multiplier;
  }
  const bool growing =
      form.scaling == RotaryScaling::yarn || form.scaling == RotaryScaling::longrope;
  if (!growing || form.attention_factor != 0.0) {
    return growing ? form.attention_factor : 1.0;
  }
  if (form.scaling == RotaryScaling::longrope) {
    const auto original = static_cast<double>(form.original_length);
    return form.factor <= 1.0 ? 1.0
                              : std::sqrt(1.0 + std::log(form.factor) / std::log(original));
  }
  return form.mscale != 0.0 && form.mscale_all_dim != 0.0
             ? yarn_growth(form.factor, form.mscale) /
                   yarn_growth(form.factor, form.mscale_all_dim)
             : yarn_growth(form.factor, 1.0);
}

RotaryTable table_of(
    int64_t first,
    int64_t length,
    const torch::Tensor& frequency,
    const torch::TensorOptions& type) {
  const auto position = torch::arange(first, first + length, type);
  const auto angle = torch::outer(position, frequency);
  return {angle.cos(), angle.sin()};
}

} // namespace

RotaryTable rotary_table(
    int64_t first,
    int64_t length,
    int64_t head_dim,
    double theta,
    const torch::TensorOptions& type) {
  TORCH_CHECK(head_dim % 2 == 0, "rotary_table: head_dim (", head_dim, ") must be even");
  return table_of(first, length, frequencies(head_dim, theta, type), type);
}

RotaryTable rotary_table(
    int64_t first, int64_t length, const RotaryForm& form, const torch::TensorOptions& type) {
  TORCH_CHECK(form.dim % 2 == 0, "rotary_table: dim (", form.dim, ") must be even");
  const int64_t end = first + length;
  auto table = table_of(first, length, scaled_frequencies(form, end, type), type);
  const double multiplier = table_multiplier(form, end);
  if (multiplier != 1.0) {
    table = {table.cos * multiplier, table.sin * multiplier};
  }
  return table;
}

double yarn_score_multiplier(const RotaryForm& form) {
  if (form.scaling == RotaryScaling::none || form.mscale_all_dim == 0.0) {
    return 1.0;
  }
  const double growth = yarn_growth(form.factor, form.mscale_all_dim);
  return growth * growth;
}

torch::Tensor apply_rotary(const torch::Tensor& input, const RotaryTable& table) {
  const int64_t dim = 2 * table.cos.size(-1);
  const auto halves = input.slice(/*dim=*/-1, 0, dim).chunk(2, /*dim=*/-1);
  const auto cos = table.cos.unsqueeze(1); // [S, 1, rotary_dim / 2]
  const auto sin = table.sin.unsqueeze(1);
  const auto turned =
      torch::cat(
          {halves[0] * cos - halves[1] * sin, halves[1] * cos + halves[0] * sin}, /*dim=*/-1)
          .to(input.scalar_type());
  return dim == input.size(-1) ? turned
                               : torch::cat({turned, input.slice(/*dim=*/-1, dim)}, /*dim=*/-1);
}

} // namespace moe
