#pragma once

#include <torch/arg.h>

#include <cstdint>

#include "moe/layers/router_form.h"

namespace moe {

/// Options for the `TopKRouter` module.
///
/// Example:
/// ```
/// TopKRouter router(TopKRouterOptions(/*model_dim=*/512, /*num_experts=*/64)
///                       .experts_per_token(8)
///                       .form({.score = RouterScore::sigmoid, .selection_bias = true}));
/// ```
struct TopKRouterOptions {
  TopKRouterOptions(int64_t model_dim, int64_t num_experts);
  /// Width D of a token's representation.
  TORCH_ARG(int64_t, model_dim);
  /// Number of experts E to choose from.
  TORCH_ARG(int64_t, num_experts);
  /// Number of experts K that each token goes to; with `expert_choice` on average. K = E is the
  /// dense mixture of all experts. Default: 2, or num_experts if that is less
  TORCH_ARG(int64_t, experts_per_token);
  /// How experts are scored, chosen and weighted. Default: the best of softmax scores, divided
  /// by their sum
  TORCH_ARG(RouterForm, form) = {};
  /// hash: routers with different seeds, from 0 to 65535, send a token to different experts.
  /// Default: 0
  TORCH_ARG(int64_t, hash_seed) = 0;
  /// Standard deviation of the initial weights. Default: 0.02
  TORCH_ARG(double, initializer_range) = 0.02;
};

/// Throws `c10::Error` unless a router can be built.
void validate(const TopKRouterOptions& options);

} // namespace moe
