#include "moe/kernels/cpu_activation.h"

#include <cmath>
#include <limits>
#include <numbers>

#include "moe/kernels/cpu_exponential.h"

namespace moe::cpu {
namespace {

// What is computed is inline by force, so that it is compiled once for each instruction set of
// run_* below. The compiler vectorises the loops over lanes.

struct ValueAndSlope {
  float value;
  float slope;
};

template <Activation activation>
[[gnu::always_inline]] inline ValueAndSlope activate(float x) {
  if constexpr (activation == Activation::silu) {
    const float s = 1.0F / (1.0F + exponential(-x));
    return {x * s, s + x * s * (1.0F - s)};
  } else if constexpr (activation == Activation::gelu) {
    // Φ by Abramowitz and Stegun 7.1.26, to 1e-7.
    const float density = exponential(-0.5F * x * x);
    const float z = std::abs(x) * (1.0F / std::numbers::sqrt2_v<float>);
    const float t = 1.0F / (1.0F + 0.3275911F * z);
    float p = 1.061405429F;
    p = p * t - 1.453152027F;
    p = p * t + 1.421413741F;
    p = p * t - 0.284496736F;
    p = p * t + 0.254829592F;
    const float tail = 0.5F * p * t * density;
    const float phi = x < 0.0F ? tail : 1.0F - tail;
    return {x * phi, phi + x * density * 0.398942280F};
  } else if constexpr (activation == Activation::gelu_tanh) {
    // 0.5 · (1 + tanh(z / 2)) is the logistic function of z.
    constexpr float scale = 1.595769122F; // 2 · sqrt(2 / π)
    const float s = 1.0F / (1.0F + exponential(-scale * (x + 0.044715F * x * x * x)));
    return {x * s, s + x * s * (1.0F - s) * scale * (1.0F + 0.134145F * x * x)};
  } else if constexpr (activation == Activation::relu) {
    return {x < 0.0F ? 0.0F : x, x > 0.0F ? 1.0F : 0.0F};
  } else {
    static_assert(activation == Activation::relu_squared);
    const float r = x < 0.0F ? 0.0F : x;
    return {r * r, 2.0F * r};
  }
}

/// What `ExpertForm` has besides the activation, as numbers that change nothing where there is
/// none of it.
struct FormNumbers {
  explicit FormNumbers(const ExpertForm& form)
      : limit(
            form.limit > 0.0 ? static_cast<float>(form.limit)
                             : std::numeric_limits<float>::infinity()),
        scale(static_cast<float>(form.sigmoid_scale)),
        inverse_scale(static_cast<float>(1.0 / form.sigmoid_scale)),
        offset(static_cast<float>(form.offset)) {}

  float limit;
  float scale; ///< x · sigmoid(scale · x) is silu(scale · x) / scale
  float inverse_scale;
  float offset;
};

/// The activation of the limited `gate`, by the numbers of a form.
template <Activation activation>
[[gnu::always_inline]] inline ValueAndSlope activate(float gate, const FormNumbers& form) {
  const float x = gate > form.limit ? form.limit : gate;
  if constexpr (activation == Activation::silu) {
    const auto [value, slope] = activate<activation>(form.scale * x);
    return {form.inverse_scale * value, slope};
  }
  return activate<activation>(x);
}

[[gnu::always_inline]] inline float factor_of(float up, const FormNumbers& form) {
  const float below = up > form.limit ? form.limit : up;
  return (below < -form.limit ? -form.limit : below) + form.offset;
}

// One feature. That no pointer aliases another is said of parameters: only there g++ trusts it.

template <Activation activation, bool gated>
[[gnu::always_inline]] inline void forward_lanes(
    int64_t lanes,
    const float* __restrict gate,
    const float* __restrict up,
    const float* __restrict row_weight,
    float* __restrict hidden,
    FormNumbers form) {
  for (int64_t i = 0; i < lanes; ++i) {
    const float value = row_weight[i] * activate<activation>(gate[i], form).value;
    hidden[i] = gated ? value * factor_of(up[i], form) : value;
  }
}

template <Activation activation, bool gated>
[[gnu::always_inline]] inline void backward_lanes(
    int64_t lanes,
    const float* __restrict gate,
    const float* __restrict up,
    const float* __restrict row_weight,
    const float* __restrict hidden_gradient,
    float* __restrict gate_gradient,
    float* __restrict up_gradient,
    float* __restrict weighted_hidden,
    float* __restrict row_weight_gradient,
    FormNumbers form) {
  for (int64_t i = 0; i < lanes; ++i) {
    const auto [value, slope] = activate<activation>(gate[i], form);
    const float factor = gated ? factor_of(up[i], form) : 1.0F;
    const float hidden = value * factor;
    const float weighted = row_weight[i] * hidden_gradient[i];
    row_weight_gradient[i] += hidden * hidden_gradient[i];
    gate_gradient[i] = gate[i] > form.limit ? 0.0F : weighted * factor * slope;
    weighted_hidden[i] = row_weight[i] * hidden;
    if constexpr (gated) {
      up_gradient[i] = std::abs(up[i]) > form.limit ? 0.0F : weighted * value;
    }
  }
}

template <Activation activation, bool gated>
[[gnu::always_inline]] inline void run(
    int64_t width, int64_t lanes, const FormNumbers& form, const ActivationForward& tile) {
  for (int64_t at = 0; at < width * lanes; at += lanes) {
    forward_lanes<activation, gated>(
        lanes,
        tile.gate + at,
        gated ? tile.up + at : nullptr,
        tile.row_weight,
        tile.hidden + at,
        form);
  }
}

template <Activation activation, bool gated>
[[gnu::always_inline]] inline void run(
    int64_t width, int64_t lanes, const FormNumbers& form, const ActivationBackward& tile) {
  for (int64_t at = 0; at < width * lanes; at += lanes) {
    backward_lanes<activation, gated>(
        lanes,
        tile.gate + at,
        gated ? tile.up + at : nullptr,
        tile.row_weight,
        tile.hidden_gradient + at,
        tile.gate_gradient + at,
        gated ? tile.up_gradient + at : nullptr,
        tile.weighted_hidden + at,
        tile.row_weight_gradient,
        form);
  }
}

template <Activation activation, bool gated, typename Tile>
void run_baseline(int64_t width, int64_t lanes, const FormNumbers& form, const Tile& tile) {
  run<activation, gated>(width, lanes, form, tile);
}

#if defined(__x86_64__)
template <Activation activation, bool gated, typename Tile>
[[gnu::target("avx2,fma")]] void run_avx2(
    int64_t width, int64_t lanes, const FormNumbers& form, const Tile& tile) {
  run<activation, gated>(width, lanes, form, tile);
}

template <Activation activation, bool gated, typename Tile>
[[gnu::target("avx512f")]] void run_avx512(
    int64_t width, int64_t lanes, const FormNumbers& form, const Tile& tile) {
  run<activation, gated>(width, lanes, form, tile);
}
#endif

template <Activation activation, bool gated, typename Tile>
void run_best(int64_t width, int64_t lanes, const FormNumbers& form, const Tile& tile) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) {
    return run_avx512<activation, gated>(width, lanes, form, tile);
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    return run_avx2<activation, gated>(width, lanes, form, tile);
  }
#endif
  run_baseline<activation, gated>(width, lanes, form, tile);
}

template <Activation activation, typename Tile>
void choose_gated(const ExpertForm& form, int64_t width, int64_t lanes, const Tile& tile) {
  const FormNumbers numbers(form);
  form.gated ? run_best<activation, true>(width, lanes, numbers, tile)
             : run_best<activation, false>(width, lanes, numbers, tile);
}

template <typename Tile>
void choose(const ExpertForm& form, int64_t width, int64_t lanes, const Tile& tile) {
  switch (form.activation) {
    case Activation::silu:
      return choose_gated<Activation::silu>(form, width, lanes, tile);
    case Activation::gelu:
      return choose_gated<Activation::gelu>(form, width, lanes, tile);
    case Activation::gelu_tanh:
      return choose_gated<Activation::gelu_tanh>(form, width, lanes, tile);
    case Activation::relu:
      return choose_gated<Activation::relu>(form, width, lanes, tile);
    case Activation::relu_squared:
      return choose_gated<Activation::relu_squared>(form, width, lanes, tile);
  }
}

} // namespace

void activation_forward(
    const ExpertForm& form, int64_t width, int64_t lanes, const ActivationForward& tile) {
  choose(form, width, lanes, tile);
}

void activation_backward(
    const ExpertForm& form, int64_t width, int64_t lanes, const ActivationBackward& tile) {
  choose(form, width, lanes, tile);
}

} // namespace moe::cpu
