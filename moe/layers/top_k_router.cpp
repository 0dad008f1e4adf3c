#include "moe/layers/top_k_router.h"

#include <c10/core/impl/LocalDispatchKeySet.h>

#include <cmath>

#include "moe/kernels/softmax_top_k.h"
#include "moe/layers/expert_capacity.h"
#include "moe/layers/router_noise.h"
#include "moe/layers/router_score.h"
#include "moe/layers/router_selection.h"
#include "moe/layers/router_weighting.h"
#include "moe/layers/sparsemixer.h"

namespace moe {
namespace {

/// The cosines between rows of `input` [T, P] and of `weight` [E, P], divided by the
/// temperature, which is at least 0.01.
torch::Tensor cosines(
    const torch::Tensor& input, const torch::Tensor& weight, const torch::Tensor& log_scale) {
  constexpr double largest_scale = 100.0;
  constexpr double smallest_norm = 1e-12;
  const auto unit = [](const torch::Tensor& rows) {
    return rows / rows.norm(2, /*dim=*/{1}, /*keepdim=*/true).clamp_min(smallest_norm);
  };
  return torch::linear(unit(input), unit(weight)) *
         log_scale.clamp_max(std::log(largest_scale)).exp();
}

/// Whether `softmax_top_k` is all that these options ask for.
bool takes_softmax_top_k(const TopKRouterOptions& options) {
  return options.form().score == RouterScore::softmax &&
         options.form().selection == RouterSelection::top_k && !options.form().selection_bias &&
         options.form().weighting == RouterWeighting::scores &&
         options.form().normalize_power == 1.0 && options.form().normalize_minimum == 0.0;
}

} // namespace

TopKRouterImpl::TopKRouterImpl(const TopKRouterOptions& options_) : options(options_) {
  reset();
}

void TopKRouterImpl::reset() {
  validate(options);
  const int64_t experts = options.num_experts();
  const int64_t dim = options.model_dim();
  const bool cosine = options.form().gate == RouterGate::cosine;
  const bool projected = cosine && options.form().cosine_dim > 0;
  weight = register_parameter(
      "weight", torch::empty({experts, projected ? options.form().cosine_dim : dim}));
  if (options.form().bias) {
    bias = register_parameter("bias", torch::empty({experts}));
  }
  if (projected) {
    projection =
        register_parameter("projection", torch::empty({options.form().cosine_dim, dim}));
  }
  if (cosine) {
    log_scale = register_parameter("log_scale", torch::empty({1}));
  }
  if (options.form().noise == RouterNoise::learned) {
    noise_weight = register_parameter("noise_weight", torch::empty({experts, dim}));
  }
  if (options.form().selection_bias) {
    selection_bias =
        register_buffer("selection_bias", torch::zeros({experts}, torch::kFloat32));
  }
  reset_parameters();
}

void TopKRouterImpl::reset_parameters() {
  torch::nn::init::normal_(weight, /*mean=*/0.0, options.initializer_range());
  for (auto* zero : {&bias, &noise_weight}) {
    if (zero->defined()) {
      torch::nn::init::zeros_(*zero);
    }
  }
  if (projection.defined()) {
    torch::nn::init::normal_(projection, /*mean=*/0.0, options.initializer_range());
  }
  if (log_scale.defined()) {
    torch::nn::init::constant_(log_scale, -std::log(options.form().cosine_temperature));
  }
  if (options.form().selection_bias) {
    selection_bias.zero_();
  }
}

void TopKRouterImpl::pretty_print(std::ostream& stream) const {
  stream << "moe::TopKRouter(model_dim=" << options.model_dim()
         << ", num_experts=" << options.num_experts()
         << ", experts_per_token=" << options.experts_per_token()
         << ", normalize_weights=" << std::boolalpha << options.form().normalize_weights << ")";
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

/// `input` [T, D], in float32 or wider -> [T, E].
torch::Tensor TopKRouterImpl::logits(const torch::Tensor& input) {
  const auto type = input.scalar_type();
  const auto seen = is_training() && options.form().jitter > 0.0
                        ? with_jitter(input, options.form().jitter)
                        : input;
  torch::Tensor result;
  if (options.form().gate == RouterGate::cosine) {
    const auto projected =
        projection.defined() ? torch::linear(seen, projection.to(type)) : seen;
    result = cosines(projected, weight.to(type), log_scale.to(type));
    result = bias.defined() ? result + bias.to(type) : result;
  } else {
    result =
        torch::linear(seen, weight.to(type), bias.defined() ? bias.to(type) : torch::Tensor());
  }
  if (options.form().logit_cap > 0.0) {
    result = torch::tanh(result / options.form().logit_cap) * options.form().logit_cap;
  }
  if (is_training() && noise_weight.defined()) {
    result = with_learned_noise(result, seen, noise_weight.to(type));
  }
  return result;
}

/// Fills in what follows from `routing.logits`, before scaling and dropping.
void TopKRouterImpl::choose(Routing& routing, const torch::Tensor& token_ids) {
  if (takes_softmax_top_k(options)) {
    const auto best = softmax_top_k(
        routing.logits, options.experts_per_token(), options.form().normalize_weights);
    routing.scores = best.scores;
    routing.experts = best.experts;
    routing.weights = best.weights;
    return;
  }
  routing.scores = router_scores(routing.logits, options.form().score);
  if (options.form().weighting == RouterWeighting::sparsemixer) {
    const auto choice =
        sparsemixer(routing.logits, options.form().sparsemixer_jitter, is_training());
    routing.experts = choice.experts;
    routing.weights = choice.weights;
    return;
  }
  const auto selection = select_experts(
      {routing.logits, routing.scores, selection_bias, token_ids, is_training()}, options);
  routing.experts = selection.experts;
  routing.kept = routing.chosen = selection.chosen;
  routing.weights = weigh_experts(routing.logits, routing.scores, selection, options);
}

Routing TopKRouterImpl::forward(const torch::Tensor& input, const torch::Tensor& token_ids) {
  TORCH_CHECK(
      input.dim() == 2 && input.size(1) == options.model_dim(),
      "TopKRouter: input must be [T, model_dim = ",
      options.model_dim(),
      "], got ",
      input.sizes());
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  Routing routing;
  routing.logits = logits(input.to(c10::promoteTypes(input.scalar_type(), torch::kFloat32)));
  choose(routing, token_ids);
  if (options.form().routed_scaling_factor != 1.0) {
    routing.weights = routing.weights * options.form().routed_scaling_factor;
  }
  if (is_training() && options.form().capacity_factor > 0.0) {
    const int64_t capacity = expert_capacity(
        input.size(0),
        options.experts_per_token(),
        options.num_experts(),
        options.form().capacity_factor);
    routing.kept = keep_within_capacity(
        routing.experts, routing.scores, capacity, options.form().capacity_drop);
  }
  return routing;
}

} // namespace moe
