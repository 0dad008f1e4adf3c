#include "moe/layers/sparse_moe_block.h"

#include <ATen/autocast_mode.h>

#include <algorithm>

namespace moe {
namespace {

ExpertOptions expert_options(
    const SparseMoEBlockOptions& options, int64_t expert_dim, bool bias) {
  return ExpertOptions(options.model_dim(), expert_dim)
      .form(options.expert())
      .bias(bias)
      .initializer_range(options.initializer_range())
      .output_initializer_range(options.output_initializer_range());
}

torch::Tensor cast(const torch::Tensor& tensor, torch::ScalarType type) {
  return tensor.defined() ? tensor.to(type) : tensor;
}

} // namespace

SparseMoEBlockOptions::SparseMoEBlockOptions(int64_t model_dim, int64_t num_experts)
    : model_dim_(model_dim),
      num_experts_(num_experts),
      router_(model_dim, num_experts),
      expert_dim_(4 * model_dim) {}

SparseMoEBlockOptions& SparseMoEBlockOptions::experts_per_token(int64_t count) {
  router_.experts_per_token(count);
  return *this;
}

int64_t SparseMoEBlockOptions::experts_per_token() const {
  return router_.experts_per_token();
}

SparseMoEBlockOptions& SparseMoEBlockOptions::initializer_range(double range) {
  initializer_range_ = range;
  router_.initializer_range(range);
  return *this;
}

double SparseMoEBlockOptions::initializer_range() const {
  return initializer_range_;
}

SparseMoEBlockImpl::SparseMoEBlockImpl(const SparseMoEBlockOptions& options_)
    : options(options_) {
  reset();
}

void SparseMoEBlockImpl::reset() {
  TORCH_CHECK(
      options.model_dim() >= 1 && options.expert_dim() >= 1,
      "SparseMoEBlock: model_dim (",
      options.model_dim(),
      ") and expert_dim (",
      options.expert_dim(),
      ") must be at least 1");
  TORCH_CHECK(
      options.router().model_dim() == options.model_dim() &&
          options.router().num_experts() == options.num_experts(),
      "SparseMoEBlock: the router must be of model_dim = ",
      options.model_dim(),
      " and num_experts = ",
      options.num_experts(),
      ", got ",
      options.router().model_dim(),
      " and ",
      options.router().num_experts());
  TORCH_CHECK(
      !options.output_norm() || options.output_norm()->dim() == options.model_dim(),
      "SparseMoEBlock: the output_norm must be of model_dim = ",
      options.model_dim(),
      ", got ",
      options.output_norm() ? options.output_norm()->dim() : 0);
  TORCH_CHECK(
      options.shared_expert_dim() >= 0,
      "SparseMoEBlock: shared_expert_dim (",
      options.shared_expert_dim(),
      ") must be at least 0");
  TORCH_CHECK(
      options.shared_expert_dim() > 0 || !options.shared_expert_gate(),
      "SparseMoEBlock: shared_expert_gate needs a shared_expert_dim above 0");
  const int64_t experts = options.num_experts();
  const int64_t width = options.model_dim();
  const int64_t hidden = options.expert_dim();
  router = register_module("router", TopKRouter(options.router()));
  if (options.expert().gated) {
    gate_up_proj =
        register_parameter("gate_up_proj", torch::empty({experts, 2 * hidden, width}));
  } else {
    up_proj = register_parameter("up_proj", torch::empty({experts, hidden, width}));
  }
  down_proj = register_parameter("down_proj", torch::empty({experts, width, hidden}));
  if (options.bias()) {
    if (options.expert().gated) {
      gate_up_bias = register_parameter("gate_up_bias", torch::empty({experts, 2 * hidden}));
    } else {
      up_bias = register_parameter("up_bias", torch::empty({experts, hidden}));
    }
    down_bias = register_parameter("down_bias", torch::empty({experts, width}));
  }
  if (options.shared_expert_dim() > 0) {
    const bool bias = options.bias() || options.shared_expert_bias();
    shared_expert = register_module(
        "shared_expert", Expert(expert_options(options, options.shared_expert_dim(), bias)));
  }
  if (options.shared_expert_gate()) {
    shared_expert_gate = register_module(
        "shared_expert_gate",
        torch::nn::Linear(torch::nn::LinearOptions(width, /*out_features=*/1).bias(false)));
  }
  if (options.output_norm()) {
    output_norm = register_module("output_norm", RMSNorm(*options.output_norm()));
  }
  reset_parameters();
}

void SparseMoEBlockImpl::reset_parameters() {
  router->reset_parameters();
  for (int64_t i = 0; i < options.num_experts(); ++i) {
    const torch::NoGradGuard no_grad;
    expert(i)->reset_parameters();
  }
  if (!shared_expert.is_empty()) {
    shared_expert->reset_parameters();
  }
  if (!shared_expert_gate.is_empty()) {
    torch::nn::init::normal_(
        shared_expert_gate->weight, /*mean=*/0.0, options.initializer_range());
  }
  if (!output_norm.is_empty()) {
    output_norm->reset_parameters();
  }
}

void SparseMoEBlockImpl::pretty_print(std::ostream& stream) const {
  stream << "moe::SparseMoEBlock(model_dim=" << options.model_dim()
         << ", num_experts=" << options.num_experts()
         << ", experts_per_token=" << options.experts_per_token()
         << ", expert_dim=" << options.expert_dim()
         << ", activation=" << enum_name(options.expert().activation)
         << ", gated=" << std::boolalpha << options.expert().gated
         << ", bias=" << options.bias() << ", shared_expert_dim=" << options.shared_expert_dim()
         << ")";
}

torch::Tensor SparseMoEBlockImpl::forward(
    const torch::Tensor& input, const torch::Tensor& token_ids) {
  return forward_with_routing(input, token_ids).output;
}

SparseMoEOutput SparseMoEBlockImpl::forward_with_routing(
    const torch::Tensor& input, const torch::Tensor& token_ids) {
  TORCH_CHECK(
      input.dim() >= 1 && input.size(-1) == options.model_dim(),
      "SparseMoEBlock: the last dimension of the input must be model_dim = ",
      options.model_dim(),
      ", got ",
      input.sizes());
  const auto tokens = input.reshape({-1, options.model_dim()}); // [T, D]
  const auto routing = router(tokens, token_ids);
  auto output = run_experts(tokens, routing); // [T, D]
  if (!shared_expert.is_empty()) {
    output = output + run_shared_expert(tokens);
  }
  if (options.output_multiplier() != 1.0) {
    output = output * options.output_multiplier();
  }
  if (!output_norm.is_empty()) {
    output = output_norm(output);
  }
  return {output.view(input.sizes()), routing};
}

torch::Tensor SparseMoEBlockImpl::run_experts(
    const torch::Tensor& tokens, const Routing& routing) {
  if (options.router().form().weights_on_input) {
    return run_weighted_inputs(tokens, routing);
  }
  return run_rows(
      tokens, dispatch(routing.experts, routing.weights, options.num_experts(), routing.kept));
}

torch::Tensor SparseMoEBlockImpl::run_weighted_inputs(
    const torch::Tensor& tokens, const Routing& routing) {
  const int64_t chosen = routing.experts.size(1);
  // Each of a token's K copies is a token of its own with one expert.
  const auto copies =
      (tokens.unsqueeze(1) * routing.weights.unsqueeze(2).to(tokens.scalar_type()))
          .view({-1, options.model_dim()}); // [T · K, D]
  const auto experts = routing.experts.reshape({-1, 1});
  const auto rows = dispatch(
      experts,
      torch::ones(experts.sizes(), routing.weights.options().requires_grad(false)),
      options.num_experts(),
      routing.kept.defined() ? routing.kept.reshape({-1, 1}) : routing.kept);
  return run_rows(copies, rows).view({-1, chosen, options.model_dim()}).sum(1);
}

torch::Tensor SparseMoEBlockImpl::run_rows(const torch::Tensor& tokens, const Dispatch& rows) {
  auto weights = expert_weights();
  const auto& form = options.expert();
  const auto device = tokens.device().type();
  if (!at::autocast::is_autocast_enabled(device) ||
      expert_path(tokens, weights) == ExpertPath::cpu) {
    return expert_mlp(tokens, rows, weights, form);
  }
  const auto type = at::autocast::get_autocast_dtype(device);
  weights = {
      cast(weights.up, type),
      cast(weights.down, type),
      cast(weights.up_bias, type),
      cast(weights.down_bias, type)};
  return expert_mlp(tokens.to(type), rows, weights, form);
}

torch::Tensor SparseMoEBlockImpl::run_shared_expert(const torch::Tensor& tokens) {
  const auto output = shared_expert(tokens);
  return shared_expert_gate.is_empty() ? output
                                       : torch::sigmoid(shared_expert_gate(tokens)) * output;
}

Expert SparseMoEBlockImpl::expert(int64_t index) {
  TORCH_CHECK(
      index >= 0 && index < options.num_experts(),
      "SparseMoEBlock: expert ",
      index,
      " is not in [0, num_experts = ",
      options.num_experts(),
      ")");
  const auto row = [index](const torch::Tensor& stack) {
    return stack.defined() ? stack.select(/*dim=*/0, index) : stack;
  };
  const auto weights = expert_weights();
  return Expert(
      expert_options(options, options.expert_dim(), options.bias()),
      ExpertWeights{
          row(weights.up), row(weights.down), row(weights.up_bias), row(weights.down_bias)});
}

ExpertWeights SparseMoEBlockImpl::expert_weights() const {
  return {
      options.expert().gated ? gate_up_proj : up_proj,
      down_proj,
      options.expert().gated ? gate_up_bias : up_bias,
      down_bias};
}

} // namespace moe
