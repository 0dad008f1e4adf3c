#include "moe/layers/top_k_router.h"

#include <c10/core/impl/LocalDispatchKeySet.h>

#include <algorithm>
#include <limits>

namespace moe {
namespace {

constexpr double kMinusInfinity = -std::numeric_limits<double>::infinity();

torch::Tensor score(const torch::Tensor& logits, RouterScore kind) {
  switch (kind) {
    case RouterScore::softmax:
      return torch::softmax(logits, /*dim=*/-1);
    case RouterScore::sigmoid:
      return torch::sigmoid(logits);
  }
  TORCH_CHECK(false, "TopKRouter: no such score");
}

torch::Tensor top_k(const torch::Tensor& preference, int64_t k) {
  return std::get<1>(torch::topk(preference, k, /*dim=*/-1));
}

/// The preferences [T, E] with minus infinity outside of the best groups.
torch::Tensor within_best_groups(
    const torch::Tensor& preference, const TopKRouterOptions& options) {
  const auto by_group = preference.view({preference.size(0), options.num_groups(), -1});
  const auto rank = options.selection() == RouterSelection::groups_by_max
                        ? by_group.amax(-1)
                        : std::get<0>(torch::topk(by_group, 2, /*dim=*/-1)).sum(-1);
  const auto outside = torch::ones_like(rank, torch::kBool)
                           .scatter_(/*dim=*/-1, top_k(rank, options.groups_kept()), false);
  return by_group.masked_fill(outside.unsqueeze(-1), kMinusInfinity).view_as(preference);
}

torch::Tensor select(
    const torch::Tensor& logits,
    const torch::Tensor& scores,
    const torch::Tensor& selection_bias,
    const TopKRouterOptions& options) {
  // Large logits have equal sigmoids, and the logits themselves are in the same order.
  const bool by_logits = options.score() == RouterScore::sigmoid && !selection_bias.defined() &&
                         options.selection() == RouterSelection::top_k;
  auto preference = (by_logits ? logits : scores).detach();
  if (selection_bias.defined()) {
    preference = preference + selection_bias.to(preference.scalar_type());
  }
  switch (options.selection()) {
    case RouterSelection::top_k:
      return top_k(preference, options.experts_per_token());
    case RouterSelection::groups_by_max:
    case RouterSelection::groups_by_top2:
      return top_k(within_best_groups(preference, options), options.experts_per_token());
  }
  TORCH_CHECK(false, "TopKRouter: no such selection");
}

/// The softmax of the best of `logits` [T, E] among those that are near it: [T, 1]. Experts
/// that are out of the question have a logit of minus infinity; `all` are the logits of every
/// expert.
torch::Tensor share_among_near(
    const torch::Tensor& logits, const torch::Tensor& all, double jitter) {
  const auto [best, index] = logits.detach().max(/*dim=*/-1, /*keepdim=*/true);
  const auto distance = (best - all.detach()) / torch::maximum(all.detach().abs(), best);
  const auto near = logits.masked_fill(distance > 2.0 * jitter, kMinusInfinity);
  return torch::softmax(near, /*dim=*/-1).gather(/*dim=*/-1, index);
}

torch::Tensor sparsemixer_weights(
    const torch::Tensor& logits, const torch::Tensor& experts, double jitter) {
  const auto first = experts.slice(/*dim=*/1, 0, 1);
  const auto without_first = logits.scatter(/*dim=*/-1, first, kMinusInfinity);
  return torch::cat(
      {share_among_near(logits, logits, jitter),
       share_among_near(without_first, logits, jitter)},
      /*dim=*/-1);
}

torch::Tensor divide_by_sum(const torch::Tensor& weights, const TopKRouterOptions& options) {
  const double power = options.normalize_power();
  auto sum = power == 1.0 ? weights.sum(/*dim=*/-1, /*keepdim=*/true)
                          : torch::norm(weights, power, /*dim=*/{-1}, /*keepdim=*/true);
  if (options.normalize_minimum() > 0.0) {
    sum = sum.clamp_min(options.normalize_minimum());
  }
  return weights / sum;
}

torch::Tensor weigh(
    const torch::Tensor& logits,
    const torch::Tensor& scores,
    const torch::Tensor& experts,
    const TopKRouterOptions& options) {
  torch::Tensor weights; // [T, K]
  switch (options.weighting()) {
    case RouterWeighting::scores:
      weights = scores.gather(/*dim=*/-1, experts);
      if (options.normalize_weights()) {
        weights = divide_by_sum(weights, options);
      }
      break;
    case RouterWeighting::sparsemixer:
      weights = sparsemixer_weights(logits, experts, options.sparsemixer_jitter());
      break;
  }
  if (options.routed_scaling_factor() != 1.0) {
    weights = weights * options.routed_scaling_factor();
  }
  return weights;
}

void check_options(const TopKRouterOptions& options) {
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
  TORCH_CHECK(
      options.num_groups() >= 1 && options.num_experts() % options.num_groups() == 0 &&
          options.groups_kept() >= 1 && options.groups_kept() <= options.num_groups() &&
          (options.selection() == RouterSelection::top_k ||
           options.experts_per_token() <=
               options.num_experts() / options.num_groups() * options.groups_kept()),
      "TopKRouter: ",
      options.groups_kept(),
      " of num_groups (",
      options.num_groups(),
      ") must hold experts_per_token (",
      options.experts_per_token(),
      ") of num_experts (",
      options.num_experts(),
      ") and divide them evenly");
  TORCH_CHECK(
      options.weighting() != RouterWeighting::sparsemixer || options.experts_per_token() == 2,
      "TopKRouter: sparsemixer chooses two experts, experts_per_token is ",
      options.experts_per_token());
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
  check_options(options);
  const int64_t experts = options.num_experts();
  weight = register_parameter("weight", torch::empty({experts, options.model_dim()}));
  if (options.bias()) {
    bias = register_parameter("bias", torch::empty({experts}));
  }
  if (options.has_selection_bias()) {
    selection_bias =
        register_buffer("selection_bias", torch::zeros({experts}, torch::kFloat32));
  }
  reset_parameters();
}

void TopKRouterImpl::reset_parameters() {
  torch::nn::init::normal_(weight, /*mean=*/0.0, options.initializer_range());
  if (options.bias()) {
    torch::nn::init::zeros_(bias);
  }
  if (options.has_selection_bias()) {
    selection_bias.zero_();
  }
}

void TopKRouterImpl::pretty_print(std::ostream& stream) const {
  stream << "moe::TopKRouter(model_dim=" << options.model_dim()
         << ", num_experts=" << options.num_experts()
         << ", experts_per_token=" << options.experts_per_token()
         << ", normalize_weights=" << std::boolalpha << options.normalize_weights() << ")";
}

void TopKRouterImpl::to(torch::Device device, torch::Dtype dtype, bool non_blocking) {
  Module::to(device, non_blocking);
  to(dtype, non_blocking);
}

void TopKRouterImpl::to(torch::Dtype dtype, bool non_blocking) {
  const auto precise = selection_bias.defined() ? selection_bias.clone() : selection_bias;
  Module::to(dtype, non_blocking);
  if (precise.defined()) {
    const auto wide = c10::promoteTypes(dtype, torch::kFloat32);
    selection_bias.set_data(precise.to(wide));
  }
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
  routing.logits = torch::linear(
      input.to(type), weight.to(type), bias.defined() ? bias.to(type) : torch::Tensor());
  if (options.logit_cap() > 0.0) {
    routing.logits = torch::tanh(routing.logits / options.logit_cap()) * options.logit_cap();
  }
  routing.scores = score(routing.logits, options.score());
  routing.experts = select(routing.logits, routing.scores, selection_bias, options);
  routing.weights = weigh(routing.logits, routing.scores, routing.experts, options);
  return routing;
}

} // namespace moe
