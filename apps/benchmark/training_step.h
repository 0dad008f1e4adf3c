#pragma once

#include "apps/benchmark/suites.h"
#include "moe/decoder/decoder_lm.h"
#include "moe/training/adamw.h"

namespace moe {

/// A model of a workload's shape with its optimizer, and steps on random ids.
class TrainingStep {
 public:
  TrainingStep(const Workload& work, torch::ScalarType type, bool recompute);

  /// Forward, backward, clipping, AdamW.
  void run();

 private:
  Workload work_;
  torch::ScalarType type_;
  DecoderLM model_;
  AdamW optimizer_;
};

} // namespace moe
