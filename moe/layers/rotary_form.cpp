#include "moe/layers/rotary_form.h"

namespace moe {
namespace {

bool is_scaled(const RotaryForm& form) {
  return form.scaling != RotaryScaling::none;
}

bool is_llama3(const RotaryForm& form) {
  return form.scaling == RotaryScaling::llama3;
}

bool is_yarn(const RotaryForm& form) {
  return form.scaling == RotaryScaling::yarn;
}

bool is_longrope(const RotaryForm& form) {
  return form.scaling == RotaryScaling::longrope;
}

bool has_original_length(const RotaryForm& form) {
  return is_llama3(form) || is_yarn(form) || is_longrope(form);
}

bool has_attention_factor(const RotaryForm& form) {
  return is_yarn(form) || is_longrope(form);
}

OptionTable<RotaryForm> rotary_rows() {
  using Form = RotaryForm;
  using enum OptionRange;
  using enum OptionSupport;
  return {
      option(
          "rope_theta",
          &Form::theta,
          "Base of the rotary frequencies.",
          {.range = above_0, .support = plain}),
      option(
          "rotary_dim",
          &Form::dim,
          "Elements of each head that turn with the position: the first, in latent attention "
          "the "
          "last; 0 means all.",
          {.support = packed}),
      option(
          "rope_scaling",
          &Form::scaling,
          "Stretch positions for longer contexts: none, linear, dynamic, llama3, yarn or "
          "longrope.",
          {.support = packed}),
      option(
          "rope_factor",
          &Form::factor,
          "How much longer the context becomes by rope_scaling.",
          {.range = above_0, .matters = is_scaled, .support = packed}),
      option(
          "rope_original_length",
          &Form::original_length,
          "Context before llama3, yarn or longrope scaling; 0 means context_length.",
          {.range = at_least_0, .matters = has_original_length, .support = packed}),
      option(
          "rope_low_frequency_factor",
          &Form::low_frequency_factor,
          "llama3: waves longer than rope_original_length / this are stretched.",
          {.range = above_0, .matters = is_llama3, .support = packed}),
      option(
          "rope_high_frequency_factor",
          &Form::high_frequency_factor,
          "llama3: waves shorter than rope_original_length / this are kept.",
          {.range = above_0, .matters = is_llama3, .support = packed}),
      option(
          "rope_beta_fast",
          &Form::beta_fast,
          "yarn: frequencies with more turns in rope_original_length are kept.",
          {.range = above_0, .matters = is_yarn, .support = packed}),
      option(
          "rope_beta_slow",
          &Form::beta_slow,
          "yarn: frequencies with fewer turns in rope_original_length are stretched.",
          {.range = above_0, .matters = is_yarn, .support = packed}),
      option(
          "rope_truncate",
          &Form::truncate,
          "yarn: round the bounds between kept and stretched frequencies to whole pairs.",
          {.matters = is_yarn, .support = packed}),
      option(
          "rope_mscale",
          &Form::mscale,
          "yarn: weight of the growth of the scores; 0 for the default.",
          {.range = at_least_0, .matters = is_yarn, .support = packed}),
      option(
          "rope_mscale_all_dim",
          &Form::mscale_all_dim,
          "yarn: its counterpart, which also scales the scores of latent attention; 0 for the "
          "default.",
          {.range = at_least_0, .matters = is_yarn, .support = packed}),
      option(
          "rope_attention_factor",
          &Form::attention_factor,
          "yarn and longrope: multiplies cosines and sines; 0 for the default.",
          {.range = at_least_0, .matters = has_attention_factor, .support = packed}),
      option(
          "rope_short_factors",
          &Form::short_factors,
          "longrope: divisors of the frequencies up to rope_original_length, one per pair.",
          {.range = above_0, .matters = is_longrope}),
      option(
          "rope_long_factors",
          &Form::long_factors,
          "longrope: divisors of the frequencies beyond rope_original_length.",
          {.range = above_0, .matters = is_longrope}),
      option(
          "rope_short_multiplier",
          &Form::short_multiplier,
          "longrope: multiplies cosines and sines up to rope_original_length; the short "
          "factors "
          "then hold at every length. 0 for the default.",
          {.range = at_least_0, .matters = is_longrope}),
      option(
          "rope_long_multiplier",
          &Form::long_multiplier,
          "longrope: multiplies cosines and sines beyond rope_original_length.",
          {.range = at_least_0, .matters = is_longrope}),
  };
}

std::string scaling_problem(const RotaryForm& form, int64_t turning) {
  if (is_llama3(form) && form.high_frequency_factor <= form.low_frequency_factor) {
    return "rope_high_frequency_factor: must be above rope_low_frequency_factor";
  }
  if (form.scaling == RotaryScaling::dynamic && turning <= 2) {
    return "rope_scaling: dynamic needs a rotary_dim above 2";
  }
  const auto pairs = static_cast<size_t>(turning / 2);
  for (const auto* factors : {&form.short_factors, &form.long_factors}) {
    if (is_longrope(form) && factors->size() != pairs) {
      return "rope_short_factors, rope_long_factors: " + std::to_string(factors->size()) +
             " factors for " + std::to_string(pairs) + " pairs; one for each";
    }
  }
  return {};
}

} // namespace

template <>
const OptionTable<RotaryForm>& option_table<RotaryForm>() {
  static const auto table = rotary_rows();
  return table;
}

std::string rotary_problem(const RotaryForm& form, int64_t head_dim) {
  auto found = range_problem(form);
  const int64_t turning = form.dim == 0 ? head_dim : form.dim;
  if (found.empty() && (turning < 2 || turning % 2 != 0 || turning > head_dim)) {
    found = "rotary_dim: " + std::to_string(turning) +
            " is not an even number from 2 to head_dim (" + std::to_string(head_dim) + ")";
  }
  return found.empty() ? scaling_problem(form, turning) : found;
}

} // namespace moe
