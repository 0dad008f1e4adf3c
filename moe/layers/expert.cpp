#include "moe/layers/expert.h"

#include "moe/kernels/activation.h"

namespace moe {

ExpertOptions::ExpertOptions(int64_t model_dim, int64_t expert_dim)
    : model_dim_(model_dim), expert_dim_(expert_dim) {}

ExpertImpl::ExpertImpl(const ExpertOptions& options_) : options(options_) {
  reset();
}

ExpertImpl::ExpertImpl(const ExpertOptions& options_, const ExpertWeights& weights)
    : options(options_), down_proj(weights.down), down_bias(weights.down_bias) {
  (options.form().gated ? gate_up_proj : up_proj) = weights.up;
  (options.form().gated ? gate_up_bias : up_bias) = weights.up_bias;
}

void ExpertImpl::reset() {
  TORCH_CHECK(
      options.model_dim() >= 1 && options.expert_dim() >= 1,
      "Expert: model_dim (",
      options.model_dim(),
      ") and expert_dim (",
      options.expert_dim(),
      ") must be at least 1");
  const auto problem = range_problem(options.form());
  TORCH_CHECK(problem.empty(), "Expert: ", problem);
  const int64_t width = options.model_dim();
  const int64_t hidden = options.expert_dim();
  if (options.form().gated) {
    gate_up_proj = register_parameter("gate_up_proj", torch::empty({2 * hidden, width}));
  } else {
    up_proj = register_parameter("up_proj", torch::empty({hidden, width}));
  }
  down_proj = register_parameter("down_proj", torch::empty({width, hidden}));
  if (options.bias()) {
    if (options.form().gated) {
      gate_up_bias = register_parameter("gate_up_bias", torch::empty({2 * hidden}));
    } else {
      up_bias = register_parameter("up_bias", torch::empty({hidden}));
    }
    down_bias = register_parameter("down_bias", torch::empty({width}));
  }
  reset_parameters();
}

void ExpertImpl::reset_parameters() {
  torch::nn::init::normal_(
      options.form().gated ? gate_up_proj : up_proj, /*mean=*/0.0, options.initializer_range());
  torch::nn::init::normal_(down_proj, /*mean=*/0.0, options.output_initializer_range());
  if (options.bias()) {
    torch::nn::init::zeros_(options.form().gated ? gate_up_bias : up_bias);
    torch::nn::init::zeros_(down_bias);
  }
}

void ExpertImpl::pretty_print(std::ostream& stream) const {
  stream << "moe::Expert(model_dim=" << options.model_dim()
         << ", expert_dim=" << options.expert_dim()
         << ", activation=" << enum_name(options.form().activation)
         << ", gated=" << std::boolalpha << options.form().gated << ", bias=" << options.bias()
         << ")";
}

torch::Tensor ExpertImpl::forward(const torch::Tensor& input) {
  const auto& projection = options.form().gated ? gate_up_proj : up_proj;
  const auto& bias = options.form().gated ? gate_up_bias : up_bias;
  const auto hidden = activate(torch::linear(input, projection, bias), options.form());
  return torch::linear(hidden, down_proj, down_bias);
}

} // namespace moe
