#include "apps/benchmark/training_step.h"

#include "moe/decoder/next_token_loss.h"
#include "moe/training/autocast_guard.h"
#include "moe/training/losses.h"

namespace moe {

TrainingStep::TrainingStep(const Workload& work, torch::ScalarType type, bool recompute)
    : work_(work),
      type_(type),
      model_(work.model),
      optimizer_(model_->named_parameters().pairs(), {}) {
  model_->recompute = recompute;
}

void TrainingStep::run() {
  const auto ids = torch::randint(
      work_.model.vocab_size, {work_.batch_size, work_.sequence_length + 1}, torch::kInt64);
  {
    const AutocastGuard autocast(at::kCPU, type_);
    const auto output = model_->forward(ids.slice(1, 0, work_.sequence_length));
    const auto loss = next_token_loss(output.hidden, model_->head_weight(), ids.slice(1, 1)) +
                      load_balancing_loss(output.routing) * 0.01 +
                      router_z_loss(output.routing) * 0.001;
    loss.backward();
  }
  const double norm = optimizer_.gradient_norm();
  optimizer_.step(/*lr=*/1e-3, norm > 1.0 ? 1.0 / norm : 1.0);
  optimizer_.clear_gradients();
}

} // namespace moe
