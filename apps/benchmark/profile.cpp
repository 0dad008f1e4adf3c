#include "apps/benchmark/memory_suites.h"
#include "apps/benchmark/training_step.h"
#include "moe/decoder/next_token_loss.h"
#include "moe/kernels/dispatch.h"
#include "moe/kernels/expert_mlp.h"
#include "moe/libtorch.h"
#include "moe/training/autocast_guard.h"

namespace moe {
namespace {

/// Forward and backward of one part, with fresh gradients each time.
double seconds_of(
    int64_t repetitions,
    const torch::Tensor& input,
    const std::vector<torch::Tensor>& parameters,
    torch::ScalarType type,
    const std::function<torch::Tensor()>& forward) {
  const auto compute = [&] {
    const AutocastGuard autocast(at::kCPU, type);
    return forward();
  };
  const auto gradient = torch::randn_like(compute());
  const auto run = [&] {
    compute().backward(gradient);
    for (auto tensor : parameters) {
      tensor.mutable_grad() = torch::Tensor();
    }
    input.mutable_grad() = torch::Tensor();
  };
  time_runs(/*repetitions=*/2, run);
  return time_runs(repetitions, run).best;
}

} // namespace

std::vector<Measurement> measure_profile(
    const Workload& work,
    const std::string& dtype,
    int64_t repetitions,
    const NoteCallback& note) {
  note("profile of " + work.name + " in " + dtype);
  const auto type = find_dtype(dtype);
  torch::manual_seed(0);
  double step = 0.0;
  {
    TrainingStep training(work, type, /*recompute=*/false);
    time_runs(/*repetitions=*/2, [&] { training.run(); });
    step = time_runs(repetitions, [&] { training.run(); }).best;
  }
  DecoderLM model(work.model);
  auto& block = model->layers->at<DecoderBlockImpl>(0);
  const auto layers = static_cast<double>(work.model.num_layers);
  const auto ids = torch::randint(
      work.model.vocab_size, {work.batch_size, work.sequence_length}, torch::kInt64);
  const auto input = torch::randn({work.batch_size, work.sequence_length, work.model.model_dim})
                         .requires_grad_();
  const auto tokens = torch::randn({ids.numel(), work.model.model_dim}).requires_grad_();
  SequenceContext context;
  context.rotary = rotary_table(
      0, work.sequence_length, resolved_head_dim(work.model), work.model.rotary.theta, {});
  auto routing = block.moe->router(tokens.detach());
  const auto weights = routing.weights.detach().requires_grad_();
  const auto rows = dispatch(routing.experts, weights.detach(), work.model.num_experts);
  const auto time = [&](const torch::Tensor& differentiated,
                        const std::vector<torch::Tensor>& parameters,
                        const std::function<torch::Tensor()>& forward) {
    return seconds_of(repetitions, differentiated, parameters, type, forward);
  };

  std::vector<std::pair<std::string, double>> parts;
  parts.emplace_back("embedding", time(input, model->embedding->parameters(), [&] {
                       return model->embedding(ids);
                     }));
  parts.emplace_back(
      "norms", (2 * layers + 1) * time(input, model->final_norm->parameters(), [&] {
                 return model->final_norm(input);
               }));
  parts.emplace_back("attention", layers * time(input, block.attention->parameters(), [&] {
                                    return block.attention(input, context);
                                  }));
  parts.emplace_back("router", layers * time(tokens, block.moe->router->parameters(), [&] {
                                 return block.moe->router(tokens).weights;
                               }));
  parts.emplace_back(
      "dispatch",
      layers * time(weights, {}, [&] {
        return dispatch(routing.experts, weights, work.model.num_experts).row_weight;
      }));
  const auto experts = block.moe->expert_weights();
  parts.emplace_back("experts", layers * time(tokens, {experts.up, experts.down}, [&] {
                                  return expert_mlp(tokens, rows, experts, ExpertForm{});
                                }));
  parts.emplace_back("head", time(input, {model->head_weight()}, [&] {
                       return next_token_loss(input, model->head_weight(), ids);
                     }));
  AdamW optimizer(model->named_parameters().pairs(), {});
  for (auto& parameter : model->parameters()) {
    parameter.mutable_grad() = torch::full_like(parameter, 1e-3);
  }
  parts.emplace_back("optimizer", time_runs(repetitions + 1, [&] {
                                    optimizer.step(1e-3, 1.0 / optimizer.gradient_norm());
                                  }).best);
  double rest = step;
  for (const auto& part : parts) {
    rest -= part.second;
  }
  parts.emplace_back("rest", rest);
  std::vector<Measurement> results;
  for (const auto& [part, seconds] : parts) {
    const auto name = work.name + " " + part;
    results.push_back({"profile", name, dtype, "seconds", seconds, "s"});
    results.push_back({"profile", name, dtype, "share_of_step", seconds / step, ""});
  }
  return results;
}

} // namespace moe
