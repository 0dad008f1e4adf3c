#include "moe/editing/merge.h"

#include <algorithm>
#include <utility>

#include "moe/decoder/decoder_lm.h"
#include "moe/editing/layer_run.h"
#include "moe/editing/seeded.h"
#include "moe/editing/separating_row.h"
#include "moe/error.h"
#include "moe/files/atomic_file.h"

namespace moe {
namespace {

using Sources = std::vector<std::shared_ptr<const ModelFolder>>;
using Directions = std::map<int64_t, torch::Tensor>; // by layer: [models, D] float64

std::string tokenizer_of(const ModelFolder& folder) {
  const auto path = folder.path() / "tokenizer.json";
  std::error_code ignored;
  return std::filesystem::exists(path, ignored) ? read_text_file(path) : "";
}

void check_same_models(const Sources& sources) {
  check(sources.size() >= 2, "merge: ", sources.size(), " model; expected at least two");
  const auto& first = *sources.front();
  for (const auto& source : sources) {
    check(
        canonical(source->options()) == canonical(first.options()),
        source->path().string(),
        ": has other options than ",
        first.path().string(),
        "; only models of equal shape can be merged");
    check(
        tokenizer_of(*source) == tokenizer_of(first),
        source->path().string(),
        ": has another tokenizer than ",
        first.path().string());
  }
}

DecoderOptions merged_options(const Sources& sources, const MergeOptions& options) {
  DecoderOptions result = sources.front()->options();
  const auto models = static_cast<int64_t>(sources.size());
  if (result.num_experts > 0) {
    check_rows_can_be_fitted(result, "merge");
    check(
        options.experts_per_token == 0 || options.experts_per_token == result.experts_per_token,
        "experts_per_token: ",
        options.experts_per_token,
        " is not possible; the models have ",
        result.experts_per_token);
    std::map<int64_t, int64_t> counts;
    for (const int64_t layer : moe_layers(result)) {
      counts[layer] = models * layer_experts(result, layer);
    }
    return with_layer_experts(result, counts);
  }
  const int64_t chosen = options.experts_per_token > 0 ? options.experts_per_token : 2;
  check(
      chosen <= models,
      "experts_per_token: ",
      chosen,
      " is more than the ",
      models,
      " models have experts");
  result.num_experts = models;
  result.experts_per_token = chosen;
  result.expert_dim = result.dense_dim;
  result.expert_bias = result.expert_bias || result.feed_forward_bias;
  result.feed_forward_bias = false;
  result.router.normalize_weights = true;
  result.dense_layers.clear();
  return result;
}

std::vector<LazyTensor> same_tensor(
    const std::vector<LazyTensors>& models, const std::string& name) {
  std::vector<LazyTensor> tensors;
  for (const auto& model : models) {
    tensors.push_back(model.at(name));
  }
  return tensors;
}

torch::Tensor average(const std::vector<LazyTensor>& tensors) {
  torch::Tensor sum;
  for (const auto& tensor : tensors) {
    const auto values = tensor.make().to(torch::kFloat64);
    sum = sum.defined() ? sum + values : values;
  }
  return (sum / static_cast<double>(tensors.size())).to(tensors.front().type);
}

torch::Tensor side_by_side(const std::vector<LazyTensor>& tensors, bool stack) {
  std::vector<torch::Tensor> parts;
  for (const auto& tensor : tensors) {
    parts.push_back(tensor.make().to(tensors.front().type));
  }
  return stack ? torch::stack(parts) : torch::cat(parts);
}

/// For each text the row that is high in it and low in the others: [models, D].
torch::Tensor directions_of(const std::vector<torch::Tensor>& inputs) {
  const auto all = torch::cat(inputs); // [T, D]
  std::vector<torch::Tensor> rows;
  int64_t begin = 0;
  for (const auto& own : inputs) {
    const int64_t count = own.size(0);
    const int64_t others = all.size(0) - count;
    Separation separation;
    separation.inputs = all;
    separation.signs = torch::full({all.size(0)}, -1.0, torch::kFloat64);
    separation.signs.narrow(0, begin, count).fill_(1.0);
    separation.margins = torch::ones({all.size(0)}, torch::kFloat64);
    separation.weights =
        torch::full({all.size(0)}, 1.0 / static_cast<double>(others), torch::kFloat64);
    separation.weights.narrow(0, begin, count).fill_(1.0 / static_cast<double>(count));
    rows.push_back(fit_separating_row(separation));
    begin += count;
  }
  return torch::stack(rows);
}

/// The router's rows: those of mixtures, plus the direction of their model if there is one.
LazyTensor router_rows(
    const Sources& sources,
    const std::vector<LazyTensors>& models,
    const NamedShape& tensor,
    int64_t layer,
    const MergeOptions& options,
    const std::shared_ptr<const Directions>& directions) {
  const auto& shape = tensor.shape;
  const int64_t per_model = shape[0] / static_cast<int64_t>(sources.size());
  std::vector<LazyTensor> old;
  if (models.front().count(tensor.name) > 0) {
    old = same_tensor(models, tensor.name);
  }
  const auto type = old.empty() ? models.front().at("embedding.weight").type : old.front().type;
  const double deviation = sources.front()->options().initializer_range;
  const auto make = [=] {
    auto rows = torch::zeros(shape, torch::kFloat64);
    if (!old.empty()) {
      rows = side_by_side(old, /*stack=*/false).to(torch::kFloat64);
    } else if (directions->count(layer) == 0) {
      rows = deviation *
             torch::randn(shape, seeded_generator({options.seed, layer}), torch::kFloat64);
    }
    if (const auto found = directions->find(layer); found != directions->end()) {
      rows = rows + found->second.repeat_interleave(per_model, /*dim=*/0);
    }
    return rows.to(type);
  };
  return {shape, type, make};
}

/// The stack of experts, or what else has a part for each.
LazyTensor expert_tensor(
    const std::vector<LazyTensors>& models, const NamedShape& tensor, bool dense) {
  std::string name = tensor.name;
  if (dense) {
    name.replace(name.find(".moe."), std::string(".moe.").size(), ".feed_forward.");
  }
  const auto parts = same_tensor(models, name);
  return {tensor.shape, parts.front().type, [parts, dense] {
            return side_by_side(parts, /*stack=*/dense);
          }};
}

bool has_part_per_expert(const DecoderOptions& options, const std::string& name) {
  for (const int64_t layer : moe_layers(options)) {
    const auto names = expert_tensor_names(options, layer);
    if (std::find(names.begin(), names.end(), name) != names.end()) {
      return true;
    }
  }
  return false;
}

} // namespace

EditedModel merge(
    const Sources& sources, const MergeOptions& options, const std::vector<TextSample>& texts) {
  check_same_models(sources);
  check(
      options.trunk == "average" || options.trunk == "first",
      "trunk: ",
      options.trunk,
      " is not one of average, first");
  check(
      texts.empty() || texts.size() == sources.size(),
      "merge: ",
      texts.size(),
      " texts for ",
      sources.size(),
      " models; one for each, or none");
  const bool dense = sources.front()->options().num_experts == 0;
  EditedModel result;
  result.options = merged_options(sources, options);
  std::vector<LazyTensors> models;
  for (const auto& source : sources) {
    models.push_back(source->lazy_tensors());
  }
  const auto directions = std::make_shared<Directions>();
  for (const NamedShape& tensor : decoder_tensors(result.options)) {
    auto& made = result.tensors[tensor.name];
    if (tensor.name.ends_with(".moe.router.weight")) {
      const int64_t layer = std::stoll(tensor.name.substr(std::string("layers.").size()));
      made = router_rows(sources, models, tensor, layer, options, directions);
    } else if (has_part_per_expert(result.options, tensor.name)) {
      made = expert_tensor(models, tensor, dense);
    } else if (options.trunk == "first") {
      made = models.front().at(tensor.name);
    } else {
      const auto same = same_tensor(models, tensor.name);
      made = {tensor.shape, same.front().type, [same] { return average(same); }};
    }
  }
  if (!texts.empty()) {
    run_layers(result.options, result.tensors, texts, [&](LayerVisit& visit) {
      (*directions)[visit.layer()] = directions_of(visit.inputs());
    });
  }
  return result;
}

} // namespace moe
