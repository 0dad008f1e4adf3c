#include "moe/decoder/training_memory.h"

#include "moe/decoder/decoder_lm.h"
#include "moe/decoder/next_token_loss.h"
#include "moe/training/adamw.h"
#include "moe/training/losses.h"
#include "tests/support/catch.h"
#include "tests/support/tensor_memory.h"

using namespace moe;
using moe::testing::TensorMemory;

namespace {

DecoderOptions wide_decoder() {
  DecoderOptions options;
  options.vocab_size = 300;
  options.context_length = 256;
  options.model_dim = 64;
  options.num_layers = 4;
  options.attention.num_heads = 4;
  options.attention.num_kv_heads = 2;
  options.num_experts = 8;
  options.experts_per_token = 2;
  options.expert_dim = 96;
  options.dense_dim = 160;
  return options;
}

struct MeasuredMemory {
  double activations; ///< what a forward pass leaves behind
  double peak;        ///< of a whole step, weights and moments included
};

MeasuredMemory measure_step(
    const DecoderOptions& options, int64_t batch_size, int64_t length, bool recompute) {
  TensorMemory memory;
  DecoderLM model(options);
  model->recompute = recompute;
  AdamW optimizer(model->named_parameters().pairs(), {});
  MeasuredMemory measured{};
  for (int step = 0; step < 2; ++step) {
    const auto ids =
        torch::randint(options.vocab_size, {batch_size, length + 1}, torch::kInt64);
    const auto before = memory.current();
    memory.reset_peak();
    {
      const auto output = model->forward(ids.slice(1, 0, length));
      auto loss = next_token_loss(output.hidden, model->head_weight(), ids.slice(1, 1));
      if (!output.routing.empty()) {
        loss = loss + load_balancing_loss(output.routing) * 0.01 +
               router_z_loss(output.routing) * 0.001;
      }
      measured.activations = static_cast<double>(memory.current() - before);
      loss.backward();
    }
    optimizer.step(/*lr=*/1e-3, /*gradient_scale=*/1.0);
    measured.peak = static_cast<double>(memory.peak());
    optimizer.clear_gradients();
  }
  return measured;
}

} // namespace

TEST_CASE(
    "training_memory: the formula gives what a step keeps, and bounds its peak", "[decoder]") {
  auto options = wide_decoder();
  const auto kind = GENERATE(range(0, 7));
  if (kind == 1) {
    options.dense_layers = {0, 1, 2, 3};
  } else if (kind == 2) {
    options.expert.gated = false;
    options.attention.qk_norm = false;
    options.attention.num_kv_heads = 4;
  } else if (kind == 3) {
    options.shared_expert_dim = 48;
    options.shared_expert_gate = true;
  } else if (kind == 4) {
    options.layer_num_heads = {4, 8, 12, 16};
    options.attention.head_dim = 16;
  } else if (kind >= 5) {
    options.attention.qk_norm = false;
    options.attention.num_kv_heads = 4;
    options.attention.head_dim = 32;
    options.rotary.dim = 8;
    options.attention.key_value_latent_dim = 40;
    options.attention.value_head_dim = kind == 5 ? 24 : 32;
    options.attention.query_latent_dim = kind == 5 ? 48 : 0;
  }
  const bool recompute = GENERATE(false, true);
  CAPTURE(kind, recompute);
  const auto expected = training_memory(options, 8, 256, recompute);
  const auto measured = measure_step(options, 8, 256, recompute);
  CHECK_THAT(measured.activations, WithinRel(expected.activations, 0.06));
  // The bound of the project: 24 bytes per parameter and 1.3 times what is kept; the logits of
  // some tokens are a temporary of their own.
  const double logits = 2048.0 * 300 * 4;
  const double kept = expected.activations + expected.recomputed_block;
  CHECK(measured.peak < expected.parameters * 1.5 + 1.3 * kept + logits);
  CHECK(measured.peak > expected.parameters);
}

TEST_CASE(
    "training_memory: grows linearly with the sequence, recompute keeps a third", "[decoder]") {
  auto options = wide_decoder();
  options.num_layers = 8;
  const auto activations = [&](int64_t length, bool recompute) {
    return measure_step(options, 2048 / length, length, recompute).activations;
  };
  const double at_256 = activations(256, false);
  CHECK_THAT(activations(2048, false), WithinRel(at_256, 0.02));
  CHECK(activations(256, true) < at_256 / 3.0);
}
