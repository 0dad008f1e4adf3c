#include "moe/editing/grow.h"

#include <algorithm>
#include <iomanip>
#include <memory>
#include <numeric>
#include <sstream>

#include "moe/editing/layer_run.h"
#include "moe/editing/seeded.h"
#include "moe/editing/separating_row.h"
#include "moe/error.h"

namespace moe {
namespace {

/// How much the tokens of kept texts count against those of fresh ones.
constexpr double kKeptWeight = 20.0;
/// Random ids are those of the fresh texts, too.
constexpr double kRandomWeight = 1.0;
/// By how much a logit should be above or below that with which it competes, and how sharp
/// that is; as a share of the spread of a token's logits. Where old experts' highest logits
/// differ little between tokens, they are a threshold, which small rows can use: rows that
/// must be far above and far below would have to tell texts apart by the sign of their product
/// alone.
constexpr double kSoftness = 0.1;
/// How much of what tells the rows of copied experts apart stays in their copies.
constexpr double kDifference = 0.1;
constexpr double kNoise = 0.1; // of the spread of the rows

/// What is added to a layer.
struct Addition {
  std::vector<int64_t> copied;    ///< [n]
  torch::Tensor rows;             ///< [n, D] float64
  torch::Tensor biases;           ///< [n] float64; undefined where the router has no bias
  torch::Tensor selection_biases; ///< [n] or undefined
};

using Additions = std::map<int64_t, Addition>; // by layer

/// A layer's router before it grew.
struct OldRouter {
  TopKRouter module{nullptr};
  torch::Tensor weight; ///< [E, D] float64
  torch::Tensor bias;   ///< [E] float64 or undefined
};

std::string router_name(int64_t layer, const char* tensor) {
  return "layers." + std::to_string(layer) + ".moe.router." + tensor;
}

torch::Tensor indices(const std::vector<int64_t>& values) {
  return torch::tensor(values, torch::kInt64);
}

/// `grown` is the router of the grown layer, of which only the options are used.
OldRouter old_router(
    const LazyTensors& tensors, int64_t layer, int64_t experts, const TopKRouter& grown) {
  OldRouter old;
  auto options = grown->options;
  old.module = TopKRouter(options.num_experts(experts));
  old.module->eval();
  for (const auto& item : state_dict(*old.module)) {
    item.value().copy_(tensors.at(router_name(layer, item.key().c_str())).make());
  }
  old.weight = old.module->weight.to(torch::kFloat64);
  old.bias = options.form().bias ? old.module->bias.to(torch::kFloat64) : torch::Tensor();
  return old;
}

/// Inputs as the logits take them: with a column of ones where there is a bias. [T, D] or
/// [T, D + 1]
torch::Tensor with_bias_column(const torch::Tensor& inputs, const OldRouter& old) {
  return old.bias.defined() ? torch::constant_pad_nd(inputs, {0, 1}, /*value=*/1.0) : inputs;
}

torch::Tensor logits_of(
    const torch::Tensor& inputs, const torch::Tensor& rows, const torch::Tensor& biases) {
  const auto type = inputs.scalar_type();
  return torch::linear(
      inputs, rows.to(type), biases.defined() ? biases.to(type) : torch::Tensor());
}

/// The experts that `inputs` weigh highest, `count` of them.
std::vector<int64_t> most_used(OldRouter& old, const torch::Tensor& inputs, int64_t count) {
  const auto routing = old.module(inputs);
  const auto load =
      torch::zeros({old.weight.size(0)}, torch::kFloat64)
          .index_add_(
              0, routing.experts.flatten(), routing.weights.flatten().to(torch::kFloat64));
  const auto order = torch::argsort(load, /*stable=*/true, /*dim=*/0, /*descending=*/true);
  std::vector<int64_t> experts;
  for (int64_t i = 0; i < count; ++i) {
    experts.push_back(order[i].item<int64_t>());
  }
  return experts;
}

torch::Tensor kth_largest(const torch::Tensor& logits, int64_t k) {
  return std::get<0>(torch::topk(logits, k, /*dim=*/-1)).select(-1, k - 1);
}

/// The logits at which an expert has the scores `wanted` [T], by the logits [T, E] of those
/// that share a softmax with it.
torch::Tensor logit_of_score(
    const torch::Tensor& wanted, const torch::Tensor& logits, RouterScore score) {
  constexpr double tiny = 1e-6; // no expert has a score of 0, or one of 1
  switch (score) {
    case RouterScore::softmax:
      return wanted.clamp_min(tiny).log() + logits.logsumexp(-1);
    case RouterScore::sigmoid:
      return torch::logit(wanted, tiny);
    case RouterScore::sqrt_softplus:
      return wanted.clamp_min(tiny).square().expm1().log();
    case RouterScore::identity:
      return wanted;
  }
  TORCH_CHECK(false, "grow: no such score");
}

/// The highest selection bias with which experts without a score are never chosen, as scores
/// are not negative: that of the last expert that a choice by biases alone would have.
torch::Tensor highest_safe_bias(OldRouter& old) {
  const int64_t chosen = std::min(old.module->options.experts_per_token(), old.weight.size(0));
  return kth_largest(old.module->selection_bias, chosen);
}

/// The logits [T] that bring a new expert among the `rank` experts preferred.
torch::Tensor entry_logits(OldRouter& old, const torch::Tensor& inputs, int64_t rank) {
  const auto& options = old.module->options;
  if (!options.form().selection_bias) {
    return kth_largest(logits_of(inputs, old.weight, old.bias), rank);
  }
  const auto routing = old.module(inputs);
  const auto bias = old.module->selection_bias.to(routing.scores.scalar_type());
  const auto wanted = kth_largest(routing.scores + bias, rank) -
                      highest_safe_bias(old).to(routing.scores.scalar_type());
  const auto logits = logit_of_score(wanted, routing.logits, options.form().score);
  const double cap = options.form().logit_cap;
  constexpr double below_cap = 1.0 - 1e-6;
  return cap > 0.0 ? (logits / cap).clamp(-below_cap, below_cap).atanh() * cap : logits;
}

/// What tells the rows of copied experts apart, made small: [n, D], or [n] of biases.
torch::Tensor differences(const torch::Tensor& values, const std::vector<int64_t>& copied) {
  const auto rows = values.index_select(0, indices(copied));
  return (rows - rows.mean(0)) * kDifference;
}

/// How much the logits of a token differ, of which a router may add any number to all.
double spread_of(const torch::Tensor& logits) {
  const double spread = logits.std(-1, /*unbiased=*/false).mean().item<double>();
  return spread > 0.0 ? spread : 1.0;
}

/// What the direction d must do: bring as many copies as a token may have among its choices
/// in fresh texts, and leave each of them out in kept ones.
Separation separation_of(
    OldRouter& old,
    const Addition& start,
    const torch::Tensor& fresh,
    const torch::Tensor& kept,
    double kept_weight) {
  const auto new_logits = [&](const torch::Tensor& inputs) {
    return logits_of(inputs, start.rows, start.biases); // [T, n]
  };
  const auto copies = static_cast<int64_t>(start.copied.size());
  const int64_t chosen = std::min(old.module->options.experts_per_token(), old.weight.size(0));
  const int64_t replaced = std::min(chosen, copies);
  const auto to_gain = entry_logits(old, fresh, chosen - replaced + 1) -
                       kth_largest(new_logits(fresh), replaced);
  const auto to_lose = new_logits(kept).amax(-1) - entry_logits(old, kept, chosen);
  const auto ones = [](int64_t count) { return torch::ones({count}, torch::kFloat64); };
  const auto part = [](double sum, int64_t count) { return sum / static_cast<double>(count); };
  Separation separation;
  separation.inputs = with_bias_column(torch::cat({fresh, kept}), old);
  separation.signs = torch::cat({ones(fresh.size(0)), -ones(kept.size(0))});
  separation.softness = kSoftness * spread_of(logits_of(kept, old.weight, old.bias));
  separation.margins = torch::cat({to_gain, to_lose}).to(torch::kFloat64) + separation.softness;
  separation.weights = torch::cat(
      {ones(fresh.size(0)) * part(1.0, fresh.size(0)),
       ones(kept.size(0)) * part(kept_weight, kept.size(0))});
  return separation;
}

Addition add_for_texts(
    OldRouter& old,
    int64_t count,
    const torch::Tensor& fresh,
    const torch::Tensor& kept,
    double kept_weight) {
  Addition addition;
  addition.copied = most_used(old, fresh, count);
  addition.rows = old.weight.mean(0) + differences(old.weight, addition.copied);
  if (old.bias.defined()) {
    addition.biases = old.bias.mean(0) + differences(old.bias, addition.copied);
  }
  if (old.module->selection_bias.defined()) {
    addition.selection_biases = highest_safe_bias(old).expand({count});
  }
  const auto direction =
      fit_separating_row(separation_of(old, addition, fresh, kept, kept_weight));
  const int64_t width = old.weight.size(1);
  addition.rows += direction.narrow(0, 0, width);
  if (old.bias.defined()) {
    addition.biases += direction[width];
  }
  return addition;
}

Addition add_without_text(
    const LazyTensors& tensors, int64_t layer, int64_t count, int64_t seed) {
  Addition addition;
  addition.copied.resize(static_cast<size_t>(count));
  std::iota(addition.copied.begin(), addition.copied.end(), 0);
  const auto weight =
      tensors.at(router_name(layer, "weight")).make().to(torch::kFloat64); // [E, D]
  auto generator = seeded_generator({seed, layer});
  const auto noise = torch::randn({count, weight.size(1)}, generator, torch::kFloat64);
  addition.rows = weight.mean(0) + noise * (weight.std() * kNoise);
  if (const auto bias = tensors.find(router_name(layer, "bias")); bias != tensors.end()) {
    addition.biases = bias->second.make().to(torch::kFloat64).mean().expand({count});
  }
  const auto selection_bias = tensors.find(router_name(layer, "selection_bias"));
  if (selection_bias != tensors.end()) {
    addition.selection_biases = selection_bias->second.make().min().expand({count});
  }
  return addition;
}

std::string percent(double share) {
  std::ostringstream text;
  text << std::fixed << std::setprecision(2) << share * 100.0 << " %";
  return text.str();
}

std::string list_of(const std::vector<int64_t>& values) {
  std::string text;
  for (const int64_t value : values) {
    text += (text.empty() ? "" : ", ") + std::to_string(value);
  }
  return text;
}

/// The part of all choices that falls to experts from `first` on.
double share_of_new(TopKRouter router, const torch::Tensor& inputs, int64_t first) {
  return (router(inputs).experts >= first).to(torch::kFloat64).mean().item<double>();
}

torch::Tensor join(const std::vector<torch::Tensor>& parts, size_t begin, size_t end) {
  const auto first = parts.begin();
  return torch::cat(std::vector<torch::Tensor>(
      first + static_cast<int64_t>(begin), first + static_cast<int64_t>(end)));
}

/// Lets the tensors of a layer grow by what `additions` has for it when they are asked for.
void grow_layer(
    LazyTensors& tensors,
    const DecoderOptions& options,
    int64_t layer,
    std::shared_ptr<const Additions> additions) {
  for (const auto& name : expert_tensor_names(options, layer)) {
    auto shape = tensors.at(name).shape;
    shape[0] = layer_experts(options, layer);
    const bool is_row = name == router_name(layer, "weight");
    const bool is_bias = name == router_name(layer, "bias");
    const bool is_selection_bias = name == router_name(layer, "selection_bias");
    replace_tensor(tensors, name, shape, [=](const torch::Tensor& old) {
      const auto& addition = additions->at(layer);
      const auto added = is_row              ? addition.rows
                         : is_bias           ? addition.biases
                         : is_selection_bias ? addition.selection_biases
                                             : old.index_select(0, indices(addition.copied));
      return torch::cat({old, added.to(old.scalar_type())});
    });
  }
}

} // namespace

EditedModel grow(
    const ModelFolder& source,
    const GrowOptions& options,
    const std::vector<TextSample>& fresh,
    const std::vector<TextSample>& kept) {
  const auto& before = source.options();
  const auto layers = chosen_layers(before, options.layers);
  check_rows_can_be_fitted(before, "grow");
  std::map<int64_t, int64_t> counts;
  EditedModel result;
  for (const int64_t layer : layers) {
    const int64_t experts = layer_experts(before, layer);
    check(
        options.experts >= 1 && options.experts <= experts,
        "experts: ",
        options.experts,
        " new ones are not possible; 1 to ",
        experts,
        ", as each is a copy of another one");
    counts[layer] = experts + options.experts;
    for (int64_t i = 0; i < options.experts; ++i) {
      result.new_experts[layer].push_back(experts + i);
    }
  }
  result.options = with_layer_experts(before, counts);
  const auto old_tensors = source.lazy_tensors();
  result.tensors = old_tensors;
  const auto additions = std::make_shared<Additions>();
  for (const int64_t layer : layers) {
    grow_layer(result.tensors, result.options, layer, additions);
    if (fresh.empty()) {
      (*additions)[layer] = add_without_text(old_tensors, layer, options.experts, options.seed);
    }
  }
  if (fresh.empty()) {
    result.report.push_back(
        "without a text the new experts are chosen by hardly any token; train them with a "
        "load balancing loss");
    return result;
  }
  auto texts = fresh;
  texts.insert(texts.end(), kept.begin(), kept.end());
  if (kept.empty()) {
    int64_t tokens = 0;
    for (const auto& text : fresh) {
      for (const auto& batch : text.batches) {
        tokens += batch.numel();
      }
    }
    texts.push_back(
        random_text(before.vocab_size, tokens, fresh[0].batches[0].size(1), options.seed));
  }
  run_layers(result.options, result.tensors, texts, [&](LayerVisit& visit) {
    const int64_t layer = visit.layer();
    if (counts.count(layer) == 0) {
      return;
    }
    const auto fresh_inputs = join(visit.inputs(), 0, fresh.size());
    const auto kept_inputs = join(visit.inputs(), fresh.size(), texts.size());
    const int64_t experts = layer_experts(before, layer);
    auto old = old_router(old_tensors, layer, experts, visit.router());
    (*additions)[layer] = add_for_texts(
        old,
        options.experts,
        fresh_inputs,
        kept_inputs,
        kept.empty() ? kRandomWeight : kKeptWeight);
    const auto router = visit.experts()->router;
    result.report.push_back(
        "layer " + std::to_string(layer) + ": new experts are copies of " +
        list_of(additions->at(layer).copied) + " and take " +
        percent(share_of_new(router, fresh_inputs, experts)) + " of the choices of the data, " +
        percent(share_of_new(router, kept_inputs, experts)) + " of those of " +
        (kept.empty() ? "random tokens" : "the texts to keep"));
  });
  return result;
}

} // namespace moe
