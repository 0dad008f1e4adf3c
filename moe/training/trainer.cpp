#include "moe/training/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "moe/data/permutation.h"
#include "moe/decoder/device.h"
#include "moe/decoder/next_token_loss.h"
#include "moe/error.h"
#include "moe/evaluation/eval_mode_guard.h"
#include "moe/evaluation/routing_counter.h"
#include "moe/training/autocast_guard.h"
#include "moe/training/compute_dtype.h"
#include "moe/training/parameter_groups.h"
#include "moe/training/rebalance.h"
#include "moe/training/schedule.h"
#include "moe/training/selection_bias.h"

namespace moe {
namespace {

/// Fewest inputs by which the tokens of an expert are split.
constexpr int64_t kRevivalInputs = 4096;

AdamWOptions optimizer_options(const TrainerOptions& options) {
  return {
      .beta1 = options.beta1,
      .beta2 = options.beta2,
      .epsilon = options.epsilon,
      .weight_decay = options.weight_decay};
}

DecoderLM on_device(DecoderLM model, const std::string& device) {
  model->to(find_device(device));
  return model;
}

/// Which rows of which parameters learn, by the options.
TrainableRows trainable_rows_of(
    const DecoderLM& model, const TrainerOptions& options, const NewExperts& new_experts) {
  std::vector<ParameterRows> parameters;
  for (const auto& entry : model->named_parameters()) {
    parameters.push_back({entry.key(), entry.value().size(0)});
  }
  return trainable_rows(parameters, options.freeze, options.only, new_experts);
}

std::optional<LoraAdapters> lora_adapters(
    const DecoderLM& model, const TrainerOptions& options) {
  if (options.lora_rank == 0) {
    return std::nullopt;
  }
  const auto rank = options.lora_rank;
  const double alpha =
      options.lora_alpha > 0.0 ? options.lora_alpha : 2.0 * static_cast<double>(rank);
  const auto& targets = options.lora_targets;
  return LoraAdapters(
      model, rank, alpha, targets.empty() ? std::vector<std::string>{"experts"} : targets);
}

/// What the optimizer moves.
std::vector<std::pair<std::string, torch::Tensor>> learning_parameters(
    const DecoderLM& model, const std::optional<LoraAdapters>& lora) {
  return lora ? lora->parameters() : model->named_parameters().pairs();
}

std::vector<std::string> names_of(
    const std::vector<std::pair<std::string, torch::Tensor>>& parameters) {
  std::vector<std::string> names;
  for (const auto& entry : parameters) {
    names.push_back(entry.first);
  }
  return names;
}

void check_vocabulary(const TokenDataset& data, int64_t vocab_size) {
  for (const auto& domain : data.domains()) {
    check(
        domain.tokens.vocab_size() <= vocab_size,
        domain.tokens.path(),
        ": its vocabulary has ",
        domain.tokens.vocab_size(),
        " tokens, that of the model only ",
        vocab_size);
  }
}

double tokens_that_count(const std::vector<Batch>& batches) {
  double count = 0.0;
  for (const auto& batch : batches) {
    count += batch.loss_mask.defined() ? batch.loss_mask.sum().item<double>()
                                       : static_cast<double>(batch.targets.numel());
  }
  return std::max(count, 1.0); // there may be a batch in which nobody replies
}

} // namespace

/// What a step adds up over its batches.
struct Trainer::Sums {
  torch::Tensor loss;
  RoutingSums routing;
  RoutingCounter counter;
};

uint64_t noise_seed(int64_t seed, int64_t steps_done) {
  return mix_bits(
      {static_cast<uint64_t>(seed), 0x6e6f697365, static_cast<uint64_t>(steps_done)});
}

Trainer::Trainer(
    DecoderLM model,
    TokenDataset data,
    const TrainerOptions& options,
    const NewExperts& new_experts)
    : model_(on_device(std::move(model), options.device)),
      data_(std::move(data)),
      options_(options),
      device_(find_device(options.device)),
      routing_objective_(options, model_->options),
      trainable_(trainable_rows_of(model_, options, new_experts)),
      lora_(lora_adapters(model_, options)),
      optimizer_(
          learning_parameters(model_, lora_),
          optimizer_options(options),
          lora_ ? TrainableRows{} : trainable_,
          parameter_groups(names_of(learning_parameters(model_, lora_)), options)) {
  validate(options_);
  options_.dtype = resolve_dtype(options_.dtype, options_.device);
  data_.check_sequence_length(options_.sequence_length);
  check_vocabulary(data_, model_->options.vocab_size);
  model_->recompute = options_.recompute;
}

RoutedBatch Trainer::routed(const Batch& batch, std::vector<Routing> routing) const {
  if (model_->options.router.score == RouterScore::identity) {
    // Logits have no shares; what they mean is their softmax.
    for (auto& layer : routing) {
      layer.scores = layer.logits.softmax(/*dim=*/1);
    }
  }
  return {std::move(routing), batch.token_mask, batch.inputs.size(0)};
}

void Trainer::look_ahead(const Batch& batch, Sums& sums) {
  const torch::NoGradGuard no_grad;
  const AutocastGuard autocast(device_.type(), find_dtype(options_.dtype));
  auto output = model_->forward(batch.inputs, batch.documents);
  if (!output.routing.empty()) {
    routing_objective_.look_ahead(routed(batch, std::move(output.routing)), sums.routing);
  }
}

void Trainer::accumulate(const Batch& batch, double normalizer, Sums& sums) {
  const AutocastGuard autocast(device_.type(), find_dtype(options_.dtype));
  auto output = model_->forward(batch.inputs, batch.documents);
  const auto head = model_->head_operands(output.hidden);
  const auto loss =
      next_token_loss(head.rows, head.weight, batch.targets, batch.loss_mask, normalizer);
  sums.loss = sums.loss.defined() ? sums.loss + loss.detach() : loss.detach();
  auto objective = loss;
  if (!output.routing.empty()) {
    sums.counter.add(
        output.routing,
        batch.token_mask.defined() ? batch.token_mask.flatten() : torch::Tensor());
    objective = objective +
                routing_objective_.loss(routed(batch, std::move(output.routing)), sums.routing);
  }
  objective.backward();
}

void Trainer::update_selection_biases(const std::vector<torch::Tensor>& counts) {
  const SelectionBiasRule rule = {
      .rate = options_.selection_bias_rate,
      .proportional = options_.selection_bias_update == SelectionBiasUpdate::proportional,
      .centered = options_.selection_bias_centered};
  const auto layers = moe_layers(model_->options);
  for (size_t i = 0; i < counts.size(); ++i) {
    const auto& router = model_->layers->at<DecoderBlockImpl>(layers[i]).moe->router;
    if (!router->selection_bias.defined()) {
      continue;
    }
    // What does not learn keeps its bias, too. The weight of a router without an adapter does
    // not even require a gradient.
    if (!router->weight.requires_grad()) {
      continue;
    }
    const auto rows =
        trainable_.find("layers." + std::to_string(layers[i]) + ".moe.router.weight");
    update_selection_bias(
        router->selection_bias,
        counts[i],
        rule,
        rows != trainable_.end() ? rows->second
                                 : std::vector<RowRange>{{0, counts[i].size(0)}});
  }
}

bool Trainer::is_finite_or_fail(const char* what, double value) const {
  if (std::isfinite(value)) {
    return true;
  }
  check(
      options_.on_nonfinite == OnNonFinite::skip,
      "step ",
      steps_done_ + 1,
      ": the ",
      what,
      " is ",
      value,
      "; lower lr or max_grad_norm, or set on_nonfinite to skip such steps");
  return false;
}

StepMetrics Trainer::step() {
  const auto begin = std::chrono::steady_clock::now();
  model_->train();
  // A step that threw, or somebody else, may have left gradients.
  model_->zero_grad();
  optimizer_.clear_gradients();
  std::vector<Batch> batches;
  for (int64_t i = 0; i < options_.accumulation_steps; ++i) {
    const int64_t index = steps_done_ * options_.accumulation_steps + i;
    batches.push_back(
        data_.batch(index, options_.batch_size, options_.sequence_length).to(device_));
  }
  const double normalizer = tokens_that_count(batches);
  Sums sums;
  const auto seed = noise_seed(options_.seed, steps_done_);
  if (routing_objective_.looks_ahead()) {
    torch::manual_seed(seed);
    for (const auto& batch : batches) {
      look_ahead(batch, sums);
    }
  }
  torch::manual_seed(seed);
  for (const auto& batch : batches) {
    accumulate(batch, normalizer, sums);
  }
  if (lora_) {
    lora_->pull_gradients();
  }
  StepMetrics metrics;
  metrics.step = steps_done_ + 1;
  metrics.loss = sums.loss.item<double>();
  metrics.lr = learning_rate(metrics.step, options_);
  metrics.grad_norm = optimizer_.gradient_norm();
  if (is_finite_or_fail("loss", metrics.loss) &&
      is_finite_or_fail("gradient norm", metrics.grad_norm)) {
    const bool clip =
        options_.max_grad_norm > 0.0 && metrics.grad_norm > options_.max_grad_norm;
    optimizer_.step(metrics.lr, clip ? options_.max_grad_norm / metrics.grad_norm : 1.0);
    update_selection_biases(sums.routing.counts);
    if (lora_) {
      lora_->apply();
    }
  } else {
    ++steps_skipped_;
  }
  optimizer_.clear_gradients();
  ++steps_done_;
  const int64_t step_tokens =
      options_.accumulation_steps * options_.batch_size * options_.sequence_length;
  tokens_ += step_tokens;
  metrics.tokens = tokens_;
  sums.routing.report(metrics);
  metrics.moe = sums.counter.statistics(moe_layers(model_->options));
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
  metrics.tokens_per_s = static_cast<double>(step_tokens) / elapsed.count();
  return metrics;
}

// [T, D] of the batches before, at least one row per element to fit.
torch::Tensor Trainer::recent_expert_inputs(int64_t layer) {
  const torch::NoGradGuard no_grad;
  const EvalModeGuard eval_mode(*model_);
  const auto layers = moe_layers(model_->options);
  const auto index = std::find(layers.begin(), layers.end(), layer) - layers.begin();
  const int64_t wanted = std::max<int64_t>(kRevivalInputs, 8 * model_->options.model_dim);
  std::vector<torch::Tensor> parts;
  int64_t found = 0;
  for (int64_t i = steps_done_ * options_.accumulation_steps - 1; i >= 0 && found < wanted;
       --i) {
    const auto batch =
        data_.batch(i, options_.batch_size, options_.sequence_length).to(device_);
    const auto output = model_->trace(batch.inputs, batch.documents);
    parts.push_back(output.expert_inputs.at(static_cast<size_t>(index)).flatten(0, 1));
    found += parts.back().size(0);
  }
  return torch::cat(parts);
}

Revival Trainer::revive(int64_t layer, const std::vector<int64_t>& dead) {
  const auto layers = moe_layers(model_->options);
  check(
      std::find(layers.begin(), layers.end(), layer) != layers.end(),
      "revive: layer ",
      layer,
      " is none of the layers with experts: ",
      torch::IntArrayRef(layers));
  check(steps_done_ > 0, "revive: experts are revived by the batches of steps; none is done");
  const auto inputs = recent_expert_inputs(layer);
  // Large odd factors keep the seeds of layers, steps and runs apart.
  const auto seed = static_cast<uint64_t>(options_.seed) * 0x9E3779B97F4A7C15 +
                    static_cast<uint64_t>(steps_done_) * 0xBF58476D1CE4E5B9 +
                    static_cast<uint64_t>(layer);
  const auto& block = model_->layers->at<DecoderBlockImpl>(static_cast<size_t>(layer)).moe;
  return revive_experts(block, optimizer_, layer, dead, inputs, seed);
}

} // namespace moe
