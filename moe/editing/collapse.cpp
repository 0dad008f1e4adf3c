#include "moe/editing/collapse.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "moe/decoder/decoder_lm.h"
#include "moe/editing/layer_run.h"
#include "moe/error.h"

namespace moe {
namespace {

using Shares = std::map<int64_t, torch::Tensor>; // by layer: c_e [E] float64

void check_collapse(const DecoderOptions& model, const CollapseOptions& options) {
  check(model.num_experts > 0, "collapse: the model has no experts");
  check(
      options.method == "average" || options.method == "concatenate",
      "method: ",
      options.method,
      " is not one of average, concatenate");
  check(
      !model.moe_output_norm && !model.router.weights_on_input && !model.shared_expert_gate,
      "collapse: a dense network has no place for moe_output_norm, weights_on_input or "
      "shared_expert_gate");
  check(
      model.expert_bias || !model.feed_forward_bias,
      "collapse: experts without biases do not go with a shared expert that has some");
}

/// What the router's weights of a token sum to; fails where that depends on the token.
double known_sum(const DecoderOptions& model) {
  check(
      model.router.normalize_weights && model.router.normalize_power == 1.0 &&
          model.router.weighting == RouterWeighting::scores,
      "collapse: what the router's weights sum to depends on the token; give a text (--data) "
      "to measure it");
  return model.router.routed_scaling_factor;
}

Shares measured_shares(const ModelFolder& source, const std::vector<TextSample>& texts) {
  const auto selection = source.options().router.selection;
  check(
      selection != RouterSelection::hash && selection != RouterSelection::expert_choice,
      "collapse: router_selection is ",
      enum_name(selection),
      ", by which no text can be measured; go without one (--data)");
  Shares shares;
  run_layers(source.options(), source.lazy_tensors(), texts, [&](LayerVisit& visit) {
    auto block = visit.experts();
    auto sum = torch::zeros({block->options.num_experts()}, torch::kFloat64);
    double tokens = 0.0;
    for (const auto& inputs : visit.inputs()) {
      const auto routing = block->router(inputs);
      sum.index_add_(
          0, routing.experts.flatten(), routing.weights.flatten().to(torch::kFloat64));
      tokens += static_cast<double>(inputs.size(0));
    }
    shares[visit.layer()] = sum / tokens;
  });
  return shares;
}

torch::Tensor given_shares(const std::vector<double>& weights, int64_t experts, double sum) {
  check(
      static_cast<int64_t>(weights.size()) == experts,
      "weights: ",
      weights.size(),
      " numbers for ",
      experts,
      " experts");
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  const bool possible = std::all_of(
      weights.begin(), weights.end(), [](double w) { return std::isfinite(w) && w >= 0.0; });
  check(possible && total > 0.0, "weights: expected numbers of at least 0, not all 0");
  return torch::tensor(weights, torch::kFloat64) * (sum / total);
}

Shares shares_of(
    const ModelFolder& source,
    const CollapseOptions& options,
    const std::vector<TextSample>& texts) {
  Shares shares;
  if (!texts.empty()) {
    shares = measured_shares(source, texts);
  }
  for (const int64_t layer : moe_layers(source.options())) {
    const int64_t experts = layer_experts(source.options(), layer);
    const auto found = shares.find(layer);
    const double sum = found != shares.end() ? found->second.sum().item<double>()
                                             : known_sum(source.options());
    if (!options.weights.empty()) {
      shares[layer] = given_shares(options.weights, experts, sum);
    } else if (found == shares.end()) {
      shares[layer] =
          torch::full({experts}, sum / static_cast<double>(experts), torch::kFloat64);
    }
  }
  return shares;
}

/// Expert e times its share. A stack is float64 one expert at a time, as the whole would be the
/// largest thing in memory.
torch::Tensor weighted(const torch::Tensor& stack, const torch::Tensor& shares, int64_t e) {
  return stack[e].to(torch::kFloat64) * shares[e];
}

/// Sum over experts of share times tensor; [E, ...] -> [...].
torch::Tensor weighted_sum(const torch::Tensor& stack, const torch::Tensor& shares) {
  auto sum = weighted(stack, shares, 0);
  for (int64_t expert = 1; expert < stack.size(0); ++expert) {
    sum += weighted(stack, shares, expert);
  }
  return sum;
}

/// The hidden units of all experts one after the other: [E, m · F, ...] -> [m, E · F, ...] for
/// m matrices, then flat.
torch::Tensor joined_units(const torch::Tensor& stack, int64_t matrices) {
  const int64_t hidden = stack.size(1) / matrices;
  auto shape = stack.sizes().vec();
  shape[1] = hidden;
  shape.insert(shape.begin() + 1, matrices);
  return stack.reshape(shape).transpose(0, 1).flatten(1, 2).flatten(0, 1);
}

/// One expert of all: `kind` is up_proj, gate_up_proj, down_proj or a bias.
torch::Tensor merge_experts(
    const std::string& kind,
    const torch::Tensor& stack,
    const torch::Tensor& shares,
    bool concatenate,
    int64_t matrices) {
  if (kind == "down_bias") {
    return weighted_sum(stack, shares);
  }
  if (kind != "down_proj") {
    return concatenate ? joined_units(stack, matrices)
                       : weighted_sum(stack, shares / shares.sum());
  }
  if (!concatenate) {
    return weighted_sum(stack, shares);
  }
  auto joined = torch::empty({stack.size(1), stack.size(0), stack.size(2)}, stack.options());
  for (int64_t expert = 0; expert < stack.size(0); ++expert) {
    joined.select(1, expert).copy_(weighted(stack, shares, expert)); // [D, F]
  }
  return joined.flatten(1, 2);
}

/// Puts the hidden units of two networks side by side.
torch::Tensor join_networks(
    const std::string& kind, const torch::Tensor& a, const torch::Tensor& b, int64_t matrices) {
  if (kind == "down_bias") {
    return a + b;
  }
  if (kind == "down_proj") {
    return torch::cat({a, b}, /*dim=*/1);
  }
  const auto halves_a = a.chunk(matrices);
  const auto halves_b = b.chunk(matrices);
  std::vector<torch::Tensor> parts;
  for (size_t i = 0; i < halves_a.size(); ++i) {
    parts.push_back(halves_a[i]);
    parts.push_back(halves_b[i]);
  }
  return torch::cat(parts);
}

/// Adds units of zeros up to `width`.
torch::Tensor widened(
    const std::string& kind, const torch::Tensor& tensor, int64_t width, int64_t matrices) {
  if (kind == "down_bias") {
    return tensor;
  }
  const int64_t hidden = kind == "down_proj" ? tensor.size(1) : tensor.size(0) / matrices;
  if (hidden == width) {
    return tensor;
  }
  auto shape = tensor.sizes().vec();
  shape[kind == "down_proj" ? 1 : 0] =
      kind == "down_proj" ? width - hidden : matrices * (width - hidden);
  return join_networks(kind, tensor, torch::zeros(shape, tensor.options()), matrices);
}

int64_t merged_width(const DecoderOptions& model, int64_t layer, bool concatenate) {
  if (!is_moe_layer(model, layer)) {
    return model.dense_dim;
  }
  return model.expert_dim * (concatenate ? layer_experts(model, layer) : 1) +
         model.shared_expert_dim;
}

DecoderOptions dense_options(const DecoderOptions& model, bool concatenate) {
  DecoderOptions result = model;
  result.feed_forward_bias = model.expert_bias || model.feed_forward_bias;
  result.dense_dim = 0;
  for (int64_t layer = 0; layer < model.num_layers; ++layer) {
    result.dense_dim = std::max(result.dense_dim, merged_width(model, layer, concatenate));
  }
  const DecoderOptions none;
  result.num_experts = 0;
  result.layer_num_experts.clear();
  result.dense_layers.clear();
  result.shared_expert_dim = 0;
  result.expert_bias = false;
  result.moe_output_multiplier = none.moe_output_multiplier;
  result.router.routed_scaling_factor = none.router.routed_scaling_factor;
  return result;
}

} // namespace

EditedModel collapse(
    const ModelFolder& source,
    const CollapseOptions& options,
    const std::vector<TextSample>& texts) {
  const auto& model = source.options();
  check_collapse(model, options);
  const bool concatenate = options.method == "concatenate";
  const auto shares = shares_of(source, options, texts);
  EditedModel result;
  result.options = dense_options(model, concatenate);
  const auto old = source.lazy_tensors();
  for (const NamedShape& tensor : decoder_tensors(result.options)) {
    const size_t place = tensor.name.find(".feed_forward.");
    if (place == std::string::npos) {
      result.tensors[tensor.name] = old.at(tensor.name);
      continue;
    }
    const std::string kind = tensor.name.substr(place + std::string(".feed_forward.").size());
    const int64_t matrices = model.expert.gated ? 2 : 1;
    const int64_t width = result.options.dense_dim;
    const int64_t layer = std::stoll(tensor.name.substr(std::string("layers.").size()));
    if (!is_moe_layer(model, layer)) {
      result.tensors[tensor.name] = old.at(tensor.name);
      replace_tensor(result.tensors, tensor.name, tensor.shape, [=](const torch::Tensor& own) {
        return widened(kind, own, width, matrices);
      });
      continue;
    }
    const std::string moe = tensor.name.substr(0, place) + ".moe.";
    const auto& stack = old.at(moe + kind);
    const auto shared = old.find(moe + "shared_expert." + kind);
    const double factor = kind.starts_with("down_") ? model.moe_output_multiplier : 1.0;
    const auto share = shares.at(layer) * factor;
    const auto make_shared_part =
        shared == old.end() ? std::function<torch::Tensor()>() : shared->second.make;
    const auto make = [=, make_stack = stack.make, type = stack.type] {
      auto network = merge_experts(kind, make_stack(), share, concatenate, matrices);
      if (make_shared_part) {
        const auto part = make_shared_part().to(torch::kFloat64) * factor;
        network = join_networks(kind, network, part.to(network.scalar_type()), matrices);
      }
      return widened(kind, network, width, matrices).to(type);
    };
    result.tensors[tensor.name] = {tensor.shape, stack.type, make};
  }
  return result;
}

} // namespace moe
