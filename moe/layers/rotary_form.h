#pragma once

#include <cstdint>
#include <vector>

#include "moe/option_table.h"

namespace moe {

/// Ways to stretch rotary positions over a longer context.
enum class RotaryScaling {
  none,
  linear,   ///< all frequencies divided by the factor
  dynamic,  ///< a larger base beyond the trained length ("NTK-aware")
  llama3,   ///< low frequencies divided, high ones kept, a ramp between them
  yarn,     ///< as llama3 with a ramp over pairs; Peng et al., arXiv 2309.00071
  longrope, ///< a divisor for each pair; Ding et al., arXiv 2402.13753
};
template <>
inline constexpr std::array<std::string_view, 6> enum_names<RotaryScaling>{
    "none", "linear", "dynamic", "llama3", "yarn", "longrope"};

/// How positions become angles. `rotary_form.cpp` says what each field does, in the rows that
/// flags, files and help are made from.
struct RotaryForm {
  double theta = 10000.0;
  int64_t dim = 0; ///< elements of a head that turn: even
  RotaryScaling scaling = RotaryScaling::none;
  double factor = 1.0;
  int64_t original_length = 0; ///< before scaling (llama3, yarn, longrope)
  double low_frequency_factor = 1.0;
  double high_frequency_factor = 4.0;
  double beta_fast = 32.0;
  double beta_slow = 1.0;
  bool truncate = true;
  double mscale = 0.0;
  double mscale_all_dim = 0.0;
  double attention_factor = 0.0; ///< 0 for the default
  std::vector<double> short_factors = {};
  std::vector<double> long_factors = {};
  double short_multiplier = 0.0;
  double long_multiplier = 0.0;

  bool operator==(const RotaryForm&) const = default;
};

template <>
const OptionTable<RotaryForm>& option_table<RotaryForm>();

/// Why there are no such positions for heads of `head_dim` elements, as "option: reason"; empty
/// if there are.
std::string rotary_problem(const RotaryForm& form, int64_t head_dim);

} // namespace moe
