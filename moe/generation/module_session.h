#pragma once

#include <string>
#include <vector>

#include "moe/generation/inference_session.h"

namespace moe {

/// Computes tokens with the modules, whatever their form, type and device. The model computes
/// as in eval mode and keeps the mode that it has; only one in eval mode can be shared by
/// threads.
class ModuleSession : public InferenceSession {
 public:
  /// `reason` says why the modules are taken, for the description.
  ModuleSession(DecoderLM model, std::string reason);

  void begin(int64_t num_sequences, int64_t capacity) override;
  std::span<float> prefill(int64_t sequence, std::span<const int32_t> ids) override;
  std::span<float> decode(std::span<const int32_t> ids) override;
  std::string description() const override;
  int64_t weight_bytes() const override;
  int64_t active_weight_bytes() const override;
  const DecoderOptions& options() const override;

  /// What the routers decided in the last `prefill`, one per layer with experts.
  const std::vector<Routing>& last_routing() const {
    return last_routing_;
  }

 private:
  DecoderLM model_;
  std::string reason_;
  std::vector<DecoderState> sequences_;
  std::vector<Routing> last_routing_;
  std::vector<float> logits_; // [sequences, V]
};

} // namespace moe
