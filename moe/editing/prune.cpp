#include "moe/editing/prune.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "moe/editing/layer_run.h"
#include "moe/error.h"

namespace moe {
namespace {

using Kept = std::map<int64_t, torch::Tensor>; // by layer: indices [N], ascending

/// Tokens of which an expert's hidden units are in memory together.
constexpr int64_t kRowsAtATime = 1024;

int64_t count_to_keep(const PruneOptions& options, const DecoderOptions& model, int64_t layer) {
  const int64_t experts = layer_experts(model, layer);
  const int64_t keep =
      options.experts > 0
          ? options.experts
          : static_cast<int64_t>(std::ceil(options.share * static_cast<double>(experts)));
  check(
      keep >= model.experts_per_token && keep < experts,
      "prune: ",
      keep,
      " experts cannot remain in layer ",
      layer,
      "; at least experts_per_token (",
      model.experts_per_token,
      ") and fewer than its ",
      experts);
  return keep;
}

/// Sum over an expert's tokens of weight times norm of its output.
double summed_activation(
    SparseMoEBlock& block,
    const torch::Tensor& inputs,
    const Routing& routing,
    int64_t expert) {
  const auto pairs = (routing.experts == expert).nonzero(); // [N, 2]: token and place
  if (pairs.size(0) == 0) {
    return 0.0;
  }
  const auto tokens = pairs.select(1, 0);
  const auto weights = routing.weights.index({tokens, pairs.select(1, 1)}); // [N]
  auto network = block->expert(expert);
  const auto token_parts = tokens.split(kRowsAtATime);
  const auto weight_parts = weights.split(kRowsAtATime);
  double sum = 0.0;
  for (size_t i = 0; i < token_parts.size(); ++i) {
    const auto norms = network(inputs.index_select(0, token_parts[i])).norm(2, /*dim=*/-1);
    sum += (weight_parts[i] * norms).sum().item<double>();
  }
  return sum;
}

/// [E]: how much each expert matters to all texts.
torch::Tensor scores_of(LayerVisit& visit, const std::string& by) {
  auto block = visit.experts();
  const int64_t experts = block->options.num_experts();
  auto load = torch::zeros({experts}, torch::kFloat64);
  auto activation = torch::zeros({experts}, torch::kFloat64);
  for (const auto& inputs : visit.inputs()) {
    const auto routing = block->router(inputs);
    load += expert_counts(routing);
    for (int64_t expert = 0; by == "activation" && expert < experts; ++expert) {
      activation[expert] += summed_activation(block, inputs, routing, expert);
    }
  }
  return by == "load" ? load : activation / load.clamp_min(1.0);
}

std::string indices_text(const torch::Tensor& indices) {
  std::string text;
  for (int64_t i = 0; i < indices.numel(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(indices[i].item<int64_t>());
  }
  return text;
}

} // namespace

EditedModel prune(
    const ModelFolder& source,
    const PruneOptions& options,
    const std::vector<TextSample>& texts) {
  const auto& before = source.options();
  const auto layers = chosen_layers(before, options.layers);
  check_experts_can_change(before, "prune");
  check(
      options.by == "activation" || options.by == "load",
      "by: ",
      options.by,
      " is not one of activation, load");
  check(!texts.empty(), "prune: needs a text (--data) to see which experts matter");
  std::map<int64_t, int64_t> counts;
  for (const int64_t layer : layers) {
    counts[layer] = count_to_keep(options, before, layer);
  }
  EditedModel result;
  result.options = with_layer_experts(before, counts);
  result.tensors = source.lazy_tensors();
  const auto kept = std::make_shared<Kept>();
  run_layers(before, source.lazy_tensors(), texts, [&](LayerVisit& visit) {
    const auto count = counts.find(visit.layer());
    if (count == counts.end()) {
      return;
    }
    const auto scores = scores_of(visit, options.by);
    const auto order = torch::argsort(scores, /*stable=*/true, /*dim=*/0, /*descending=*/true);
    const auto best = std::get<0>(torch::sort(order.slice(0, 0, count->second)));
    (*kept)[visit.layer()] = best;
    result.report.push_back(
        "layer " + std::to_string(visit.layer()) + ": experts " + indices_text(best) +
        " remain");
  });
  for (const int64_t layer : layers) {
    for (const auto& name : expert_tensor_names(before, layer)) {
      auto shape = result.tensors.at(name).shape;
      shape[0] = counts.at(layer);
      replace_tensor(result.tensors, name, shape, [kept, layer](const torch::Tensor& all) {
        return all.index_select(0, kept->at(layer));
      });
    }
  }
  return result;
}

} // namespace moe
