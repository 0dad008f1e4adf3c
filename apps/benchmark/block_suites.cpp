#include "apps/benchmark/block_suites.h"

#include <torch/cuda.h>

#include "moe/decoder/decoder_lm.h"
#include "moe/decoder/device.h"
#include "moe/kernels/dispatch.h"
#include "moe/kernels/expert_mlp.h"
#include "moe/layers/expert.h"
#include "moe/layers/top_k_router.h"
#include "moe/libtorch.h"
#include "moe/training/adamw.h"
#include "moe/training/autocast_guard.h"

namespace moe {
namespace {

struct BlockShape {
  int64_t tokens, model_dim, experts, per_token, expert_dim;
};

BlockShape block_shape(const Workload& work) {
  const auto& model = work.model;
  return {
      work.batch_size * work.sequence_length,
      model.model_dim,
      model.num_experts,
      model.experts_per_token,
      model.expert_dim};
}

/// Which experts each token takes, [T, K] int64.
torch::Tensor assignment(const std::string& kind, const BlockShape& shape) {
  if (kind == "same") {
    return torch::arange(shape.per_token).repeat({shape.tokens, 1});
  }
  const auto rank = torch::arange(1, shape.experts + 1, torch::kFloat32);
  const auto share = kind == "zipf" ? rank.reciprocal() : torch::ones_like(rank);
  return torch::multinomial(share.expand({shape.tokens, -1}), shape.per_token);
}

using ExpertComputation = decltype(&expert_mlp);

/// A router and experts whose rows go where they are told, so that the load is what is said.
struct RoutedExperts {
  RoutedExperts(const BlockShape& shape, const torch::TensorOptions& options)
      : router(TopKRouterOptions(shape.model_dim, shape.experts)
                   .experts_per_token(shape.per_token)),
        up(parameter({shape.experts, 2 * shape.expert_dim, shape.model_dim}, options)),
        down(parameter({shape.experts, shape.model_dim, shape.expert_dim}, options)) {
    router->to(options.device());
  }

  static torch::Tensor parameter(at::IntArrayRef size, const torch::TensorOptions& options) {
    return (torch::randn(size) * 0.02).to(options).requires_grad_();
  }

  torch::Tensor forward(
      const torch::Tensor& input,
      const torch::Tensor& experts,
      ExpertComputation compute = expert_mlp) {
    const auto routing = router(input);
    const auto chosen = routing.scores.gather(1, experts); // [T, K]
    const auto weights = chosen / chosen.sum(1, /*keepdim=*/true);
    return compute(
        input, dispatch(experts, weights, up.size(0)), {up, down, {}, {}}, ExpertForm{});
  }

  void clear_gradients() {
    router->zero_grad();
    up.mutable_grad() = torch::Tensor();
    down.mutable_grad() = torch::Tensor();
  }

  TopKRouter router;
  torch::Tensor up;
  torch::Tensor down;
};

/// Times two computations in turns, after a run of each.
std::pair<Timing, Timing> time_in_turns(
    int64_t repetitions,
    const std::function<void()>& first,
    const std::function<void()>& second) {
  first();
  second();
  std::vector<double> first_times;
  std::vector<double> second_times;
  for (int64_t i = 0; i < repetitions; ++i) {
    first_times.push_back(time_runs(1, first).best);
    second_times.push_back(time_runs(1, second).best);
  }
  return {timing_of(first_times), timing_of(second_times)};
}

} // namespace

std::vector<Measurement> measure_block(
    const Workload& work,
    int64_t repetitions,
    const torch::Device& device,
    const std::string& dtype,
    const NoteCallback& note) {
  note("block " + work.name);
  torch::manual_seed(0);
  // As in training: on the CPU autocast rounds the factors of products, on a CUDA device the
  // block converts its weights before.
  const auto type = find_dtype(dtype);
  const auto stored_type = device.is_cpu() ? torch::kFloat32 : type;
  const auto options = torch::TensorOptions(stored_type).device(device);
  const auto cast_type = device.is_cpu() ? type : torch::kFloat32;
  const auto shape = block_shape(work);
  RoutedExperts sparse(shape, options);
  Expert dense(ExpertOptions(shape.model_dim, shape.per_token * shape.expert_dim));
  dense->to(device, stored_type);
  const auto input = torch::randn({shape.tokens, shape.model_dim}).to(options).requires_grad_();
  const auto gradient = torch::randn_like(input);
  const auto finish = [&] {
    input.mutable_grad() = torch::Tensor();
    if (device.is_cuda()) {
      torch::cuda::synchronize();
    }
  };
  const auto run_dense = [&] {
    const AutocastGuard autocast(device.type(), cast_type);
    dense(input).backward(gradient);
    dense->zero_grad();
    finish();
  };
  std::vector<Measurement> results;
  for (const std::string kind : {"uniform", "zipf", "same"}) {
    const auto experts = assignment(kind, shape).to(device);
    const auto run_sparse = [&](ExpertComputation compute) {
      const AutocastGuard autocast(device.type(), cast_type);
      sparse.forward(input, experts, compute).backward(gradient);
      sparse.clear_gradients();
      finish();
    };
    const auto add = [&](const std::string& other, const std::function<void()>& run_other) {
      const auto [moe, plain] = time_in_turns(
          repetitions, [&] { run_sparse(expert_mlp); }, run_other);
      const auto name = work.name + " " + kind;
      const auto metric = "ratio_to_" + other;
      results.push_back({"block", name, dtype, metric, moe.best / plain.best, ""});
      results.push_back(
          {"block", name, dtype, "median_" + metric, moe.median / plain.median, ""});
    };
    add("dense", run_dense);
    if (device.is_cuda()) {
      add("loop", [&] { run_sparse(expert_mlp_reference); });
    }
  }
  return results;
}

std::vector<Measurement> measure_experts(int64_t repetitions, const NoteCallback& note) {
  std::vector<Measurement> results;
  const BlockShape few{4096, 256, 8, 8, 128};
  torch::manual_seed(0);
  RoutedExperts base(few, torch::kFloat32);
  const auto input = torch::randn({few.tokens, few.model_dim}).requires_grad_();
  const auto gradient = torch::randn_like(input);
  const auto run = [&](RoutedExperts& block, const torch::Tensor& experts) {
    block.forward(input, experts).backward(gradient);
    block.clear_gradients();
    input.mutable_grad() = torch::Tensor();
  };
  const auto base_experts = assignment("uniform", few);
  for (const int64_t count : {64, 256}) {
    note("experts " + std::to_string(count));
    auto shape = few;
    shape.experts = count;
    RoutedExperts many(shape, torch::kFloat32);
    const auto experts = assignment("uniform", shape);
    const auto [more, less] = time_in_turns(
        repetitions, [&] { run(many, experts); }, [&] { run(base, base_experts); });
    results.push_back(
        {"experts",
         std::to_string(count) + " experts",
         "float32",
         "ratio_to_e8",
         more.best / less.best,
         ""});
  }
  return results;
}

std::vector<Measurement> measure_optimizer(
    const Workload& work,
    int64_t repetitions,
    const Machine& machine,
    const NoteCallback& note) {
  note("optimizer " + work.name);
  const DecoderLM model(work.model);
  AdamW optimizer(model->named_parameters().pairs(), {});
  double parameters = 0.0;
  for (auto& parameter : model->parameters()) {
    parameter.mutable_grad() = torch::full_like(parameter, 1e-3);
    parameters += static_cast<double>(parameter.numel());
  }
  const auto timing = time_runs(repetitions + 1, [&] {
    const double norm = optimizer.gradient_norm();
    optimizer.step(/*lr=*/1e-3, norm > 1.0 ? 1.0 / norm : 1.0);
  });
  const double rate = 28.0 * parameters / timing.best / 1e9;
  return {
      {"optimizer", work.name, "float32", "gb_per_s", rate, "GB/s"},
      {"optimizer",
       work.name,
       "float32",
       "share_of_bandwidth",
       rate / machine.copy_gb_per_s,
       ""}};
}

} // namespace moe
