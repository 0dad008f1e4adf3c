#include "moe/layers/top_k_router.h"

#include <c10/core/impl/LocalDispatchKeySet.h>

#include <algorithm>

namespace moe {
namespace {

torch::Tensor score(const torch::Tensor& logits) {
  return torch::softmax(logits, /*dim=*/-1);
}

torch::Tensor select(const torch::Tensor& scores, int64_t experts_per_token) {
  return std::get<1>(torch::topk(scores.detach(), experts_per_token, /*dim=*/-1));
}

torch::Tensor weigh(
    const torch::Tensor& scores,
    const torch::Tensor& experts,
    const TopKRouterOptions& options) {
  auto weights = scores.gather(/*dim=*/-1, experts); // [T, K]
  if (options.normalize_weights()) {
    weights = weights / weights.sum(/*dim=*/-1, /*keepdim=*/true);
  }
  if (options.routed_scaling_factor() != 1.0) {
    weights = weights * options.routed_scaling_factor();
  }
  return weights;
}

} // namespace

TopKRouterOptions::TopKRouterOptions(int64_t model_dim, int64_t num_experts)
    : model_dim_(model_dim),
      num_experts_(num_experts),
      experts_per_token_(std::min<int64_t>(2, num_experts)) {}

TopKRouterImpl::TopKRouterImpl(const TopKRouterOptions& options_) : options(options_) {
  reset();
}

void TopKRouterImpl::reset() {
  TORCH_CHECK(
      options.model_dim() >= 1,
      "TopKRouter: model_dim (",
      options.model_dim(),
      ") must be at least 1");
  TORCH_CHECK(
      options.num_experts() >= 1,
      "TopKRouter: num_experts (",
      options.num_experts(),
      ") must be at least 1");
  TORCH_CHECK(
      options.experts_per_token() >= 1 && options.experts_per_token() <= options.num_experts(),
      "TopKRouter: experts_per_token (",
      options.experts_per_token(),
      ") must be in [1, num_experts = ",
      options.num_experts(),
      "]");
  weight =
      register_parameter("weight", torch::empty({options.num_experts(), options.model_dim()}));
  reset_parameters();
}

void TopKRouterImpl::reset_parameters() {
  torch::nn::init::normal_(weight, /*mean=*/0.0, options.initializer_range());
}

void TopKRouterImpl::pretty_print(std::ostream& stream) const {
  stream << "moe::TopKRouter(model_dim=" << options.model_dim()
         << ", num_experts=" << options.num_experts()
         << ", experts_per_token=" << options.experts_per_token()
         << ", normalize_weights=" << std::boolalpha << options.normalize_weights() << ")";
}

Routing TopKRouterImpl::forward(const torch::Tensor& input) {
  TORCH_CHECK(
      input.dim() == 2 && input.size(1) == options.model_dim(),
      "TopKRouter: input must be [T, model_dim = ",
      options.model_dim(),
      "], got ",
      input.sizes());
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  const auto type = c10::promoteTypes(input.scalar_type(), torch::kFloat32);
  Routing routing;
  routing.logits = torch::linear(input.to(type), weight.to(type));
  routing.scores = score(routing.logits);
  routing.experts = select(routing.scores, options.experts_per_token());
  routing.weights = weigh(routing.scores, routing.experts, options);
  return routing;
}

} // namespace moe
