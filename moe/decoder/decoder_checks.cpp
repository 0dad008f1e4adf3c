#include "moe/decoder/decoder_options.h"
#include "moe/error.h"
#include "moe/option_checks_internal.h"

namespace moe {
namespace {

void check_layers(
    const char* name, const std::vector<int64_t>& layers, const DecoderOptions& options) {
  for (const int64_t layer : layers) {
    check(
        layer >= 0 && layer < options.num_layers,
        name,
        ": there is no layer ",
        layer,
        "; layers are 0 to ",
        options.num_layers - 1);
  }
}

template <class T>
void check_one_per_layer(
    const char* name, const std::vector<T>& values, const DecoderOptions& options) {
  check(
      values.empty() || static_cast<int64_t>(values.size()) == options.num_layers,
      name,
      ": ",
      values.size(),
      " values for ",
      options.num_layers,
      " layers; one per layer, or none");
}

void check_problem(const std::string& problem) {
  check(problem.empty(), problem);
}

void check_exceptions(const DecoderOptions& options) {
  check_layers("full_attention_layers", options.full_attention_layers, options);
  check_layers("no_rope_layers", options.no_rope_layers, options);
  check_layers("rope_unscaled_layers", options.rope_unscaled_layers, options);
  check_layers("dense_layers", options.dense_layers, options);
  check_one_per_layer("layer_num_heads", options.layer_num_heads, options);
  check_one_per_layer("layer_rope_theta", options.layer_rope_theta, options);
  check_one_per_layer("layer_rotary_dim", options.layer_rotary_dim, options);
  check_one_per_layer("layer_num_experts", options.layer_num_experts, options);
}

void check_latent_attention(const DecoderOptions& options) {
  const int64_t rotary = resolved_rotary_dim(options, 0);
  const int64_t head_dim = resolved_head_dim(options);
  check(
      rotary < head_dim,
      "rotary_dim: ",
      rotary,
      " leaves nothing of head_dim (",
      head_dim,
      ") to latent attention");
  check(
      options.layer_num_heads.empty() && options.layer_rotary_dim.empty(),
      "key_value_latent_dim: latent attention has as many key as query heads, and the same in "
      "every layer");
}

void check_attention(const DecoderOptions& options) {
  check_problem(attention_problem(options.attention, options.model_dim));
  for (int64_t layer = 0; layer < options.num_layers; ++layer) {
    const auto attention = layer_attention(options, layer);
    check_problem(attention_problem(attention, options.model_dim));
    auto rotary = options.rotary;
    rotary.dim = resolved_rotary_dim(options, layer);
    check_problem(rotary_problem(rotary, attention.head_dim));
  }
  if (has_latent_attention(options)) {
    check_latent_attention(options);
  }
}

// Training by what generation does not have is a mistake, unless it is meant.
void check_future(const RouterForm& router) {
  if (router.sees_future || !depends_on_future(router)) {
    return;
  }
  const std::string consequence =
      ", so that in training a token's experts depend on tokens after it, which there are not "
      "when text is generated; set router_sees_future to do so all the same";
  const bool by_score =
      router.capacity_factor > 0.0 && router.capacity_drop == CapacityDrop::score;
  check(
      !by_score,
      "capacity_drop: by score, rows of later tokens push out those of earlier ones",
      consequence);
  fail(
      "router_selection: ",
      enum_name(router.selection),
      router.selection == RouterSelection::sinkhorn
          ? " balances experts over all tokens of a batch"
          : " lets experts choose among all tokens of a batch",
      consequence);
}

void check_layer_experts(const DecoderOptions& options) {
  for (int64_t layer = 0; layer < options.num_layers; ++layer) {
    const int64_t experts = layer_experts(options, layer);
    check(
        !is_moe_layer(options, layer) ||
            (experts >= options.experts_per_token && experts <= options.num_experts),
        "layer_num_experts: ",
        experts,
        " of layer ",
        layer,
        " is not in experts_per_token (",
        options.experts_per_token,
        ") to num_experts (",
        options.num_experts,
        ")");
  }
  check(
      options.layer_num_experts.empty() || options.router.selection == RouterSelection::top_k,
      "layer_num_experts: layers with different numbers of experts need the router_selection "
      "top_k, not ",
      enum_name(options.router.selection));
}

void check_experts(const DecoderOptions& options) {
  bool any_dense = false;
  for (int64_t layer = 0; layer < options.num_layers; ++layer) {
    any_dense = any_dense || !is_moe_layer(options, layer);
  }
  if (any_dense) {
    check_at_least(1, "dense_dim", options.dense_dim);
  }
  if (options.num_experts > 0) {
    check_at_least(1, "expert_dim", options.expert_dim);
    check_problem(
        router_problem(options.router, options.num_experts, options.experts_per_token));
    check_future(options.router);
    check_layer_experts(options);
  }
}

} // namespace

void validate(const DecoderOptions& options) {
  check_at_least(1, "vocab_size", options.vocab_size);
  check_problem(range_problem(options));
  check_exceptions(options);
  check_attention(options);
  check_experts(options);
}

} // namespace moe
