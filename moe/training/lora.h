#pragma once

#include <torch/types.h>

#include <string>
#include <utility>
#include <vector>

#include "moe/decoder/decoder_lm.h"

namespace moe {

/// A parameter with a low-rank change (Hu et al., arXiv 2106.09685):
///
///     W = base + alpha / rank · B · A
///
/// A stack [E, out, in] has an A and a B for each of its E matrices.
struct LoraAdapter {
  std::string name;        ///< of the parameter
  torch::Tensor parameter; ///< [..., out, in]: W
  torch::Tensor base;      ///< [..., out, in]
  torch::Tensor a;         ///< [..., rank, in]
  torch::Tensor b;         ///< [..., out, rank]; 0 at the beginning
};

/// Adapters of the weight matrices of chosen parts of a model, `experts` or others that
/// `freeze` knows. The model holds the sum W, so that it computes, is evaluated and saved like
/// any other; gradients of W become those of A and B:
///
///     dA = alpha / rank · Bᵀ · dW,   dB = alpha / rank · dW · Aᵀ
///
/// Example:
/// ```
/// LoraAdapters adapters(model, /*rank=*/8, /*alpha=*/16.0, {"experts"});
/// AdamW optimizer(adapters.parameters(), {});
/// loss.backward();
/// adapters.pull_gradients();
/// optimizer.step(lr);
/// adapters.apply();
/// ```
class LoraAdapters {
 public:
  /// A is drawn from LibTorch's default generator. All other parameters of the model stop
  /// requiring gradients. Throws `Error` for a rank below 1, an alpha that is not finite, or a
  /// part that the model does not have.
  LoraAdapters(
      const DecoderLM& model,
      int64_t rank,
      double alpha,
      const std::vector<std::string>& parts);

  /// Writes W into the model.
  void apply() const;

  /// Moves the gradients of W to A and B, adding to what is there.
  void pull_gradients() const;

  /// A and B of every adapter: `lora_a/NAME`, `lora_b/NAME`.
  std::vector<std::pair<std::string, torch::Tensor>> parameters() const;

  const std::vector<LoraAdapter>& adapters() const {
    return adapters_;
  }
  int64_t rank() const {
    return rank_;
  }
  /// alpha / rank
  double scale() const {
    return scale_;
  }

 private:
  std::vector<LoraAdapter> adapters_;
  int64_t rank_;
  double scale_;
};

} // namespace moe
