#pragma once

#include <torch/types.h>

#include <cstdint>
#include <vector>

namespace moe {

/// Cosines and sines of rotary positions (Su et al., arXiv 2104.09864) for S successive tokens.
/// Undefined tensors stand for no positions.
struct RotaryTable {
  torch::Tensor cos; ///< [S, rotary_dim / 2]
  torch::Tensor sin; ///< [S, rotary_dim / 2]
};

/// The table of positions `first` to `first + length - 1`: element m of a head turns by
/// position · theta^(−2m / head_dim). `type` is that of the table: float32 or float64.
RotaryTable rotary_table(
    int64_t first,
    int64_t length,
    int64_t head_dim,
    double theta,
    const torch::TensorOptions& type);

/// Ways to stretch rotary positions over a longer context.
enum class RotaryScaling {
  none,
  linear,   ///< all frequencies divided by the factor
  dynamic,  ///< a larger base beyond the trained length ("NTK-aware")
  llama3,   ///< low frequencies divided, high ones kept, a ramp between them
  yarn,     ///< the same with a ramp over pairs; Peng et al., arXiv 2309.00071
  longrope, ///< a divisor for each pair; Ding et al., arXiv 2402.13753
};

/// How positions become angles. The fields are those of `DecoderOptions` whose names begin with
/// `rope_`.
struct RotaryForm {
  int64_t dim = 0; ///< elements of a head that turn: even
  double theta = 10000.0;
  RotaryScaling scaling = RotaryScaling::none;
  double factor = 1.0;
  int64_t context_length = 0;  ///< longest sequence that the model was trained with (dynamic)
  int64_t original_length = 0; ///< before scaling (llama3, yarn, longrope)
  double low_frequency_factor = 1.0;
  double high_frequency_factor = 4.0;
  double beta_fast = 32.0;
  double beta_slow = 1.0;
  bool truncate = true;
  double mscale = 0.0;
  double mscale_all_dim = 0.0;
  double attention_factor = 0.0; ///< 0 for the default
  std::vector<double> short_factors;
  std::vector<double> long_factors;
  double short_multiplier = 0.0;
  double long_multiplier = 0.0;

  bool operator==(const RotaryForm&) const = default;
};

/// The same for scaled positions. Where frequencies depend on the length (dynamic, longrope),
/// it is that of the whole sequence so far, `first + length`.
RotaryTable rotary_table(
    int64_t first, int64_t length, const RotaryForm& form, const torch::TensorOptions& type);

/// What yarn multiplies the scores of latent attention with besides 1 / sqrt(head_dim).
double yarn_score_multiplier(const RotaryForm& form);

/// Turns element m of each head together with element m + rotary_dim / 2, as Hugging Face does,
/// where rotary_dim is twice the width of the table. Elements from rotary_dim on stay.
///
/// `input` [B, S, H, head_dim] -> the same shape and type; computed in the table's type.
torch::Tensor apply_rotary(const torch::Tensor& input, const RotaryTable& table);

} // namespace moe
