#pragma once

#include <torch/arg.h>

#include <cstdint>

#include "moe/layers/router_methods.h"

namespace moe {

/// Options for the `TopKRouter` module.
///
/// Example:
/// ```
/// TopKRouter router(TopKRouterOptions(/*model_dim=*/512,
/// /*num_experts=*/64).experts_per_token(8));
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
  /// What makes logits of the input. Default: linear
  TORCH_ARG(RouterGate, gate) = RouterGate::linear;
  /// cosine: width P of a learned projection of the input before it; 0 for none. Default: 0
  TORCH_ARG(int64_t, cosine_dim) = 0;
  /// cosine: the initial temperature; it is learned. Default: 0.5
  TORCH_ARG(double, cosine_temperature) = 0.5;
  /// Adds a learned bias to the logits. Default: false
  TORCH_ARG(bool, bias) = false;
  /// Bends logits to plus or minus this by tanh; 0 for no limit. Default: 0
  TORCH_ARG(double, logit_cap) = 0.0;
  /// In training, multiplies every element of the router's input by a random number between 1
  /// minus and 1 plus this; the experts get the input as it is. 0 for none. Default: 0
  TORCH_ARG(double, jitter) = 0.0;
  /// In training, added to the logits. Default: none
  TORCH_ARG(RouterNoise, noise) = RouterNoise::none;
  /// What makes scores of logits. Default: softmax
  TORCH_ARG(RouterScore, score) = RouterScore::softmax;
  /// How experts are chosen. Default: top_k
  TORCH_ARG(RouterSelection, selection) = RouterSelection::top_k;
  /// Adds `selection_bias` to the scores for the choice, not for the weights. Default: false
  TORCH_ARG(bool, has_selection_bias) = false;
  /// Groups of equally many experts, for a choice by groups. Default: 1
  TORCH_ARG(int64_t, num_groups) = 1;
  /// Groups within which experts are chosen. Default: 1
  TORCH_ARG(int64_t, groups_kept) = 1;
  /// hash: routers with different seeds, from 0 to 65535, send a token to different experts.
  /// Default: 0
  TORCH_ARG(int64_t, hash_seed) = 0;
  /// What the chosen experts are weighted with. Default: scores
  TORCH_ARG(RouterWeighting, weighting) = RouterWeighting::scores;
  /// Divides the scores of the chosen experts by their sum. Default: true
  TORCH_ARG(bool, normalize_weights) = true;
  /// Divides by the norm of this order instead of the sum. Default: 1
  TORCH_ARG(double, normalize_power) = 1.0;
  /// Divides by at least this. Default: 0
  TORCH_ARG(double, normalize_minimum) = 0.0;
  /// Multiplies the weights of the chosen experts. Default: 1
  TORCH_ARG(double, routed_scaling_factor) = 1.0;
  /// sparsemixer: experts whose logits are within twice this part share a softmax. Default:
  /// 0.01
  TORCH_ARG(double, sparsemixer_jitter) = 0.01;
  /// In training, an expert computes at most this times the even share of rows, T · K / E,
  /// rounded up; the rest is dropped. 0 for no limit. Default: 0
  TORCH_ARG(double, capacity_factor) = 0.0;
  /// Which rows a full expert keeps. Default: position
  TORCH_ARG(CapacityDrop, capacity_drop) = CapacityDrop::position;
  /// Standard deviation of the initial weights. Default: 0.02
  TORCH_ARG(double, initializer_range) = 0.02;
};

/// Throws `c10::Error` unless a router can be built.
void validate(const TopKRouterOptions& options);

} // namespace moe
