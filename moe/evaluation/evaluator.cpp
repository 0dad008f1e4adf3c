#include "moe/evaluation/evaluator.h"

#include <algorithm>
#include <cmath>

#include "moe/decoder/next_token_loss.h"
#include "moe/error.h"
#include "moe/evaluation/eval_mode_guard.h"
#include "moe/evaluation/expert_comparison.h"
#include "moe/evaluation/routing_counter.h"

namespace moe {
namespace {

/// Tokens whose experts are kept for a comparison with the next evaluation.
constexpr int64_t kSampledTokens = 4096;
/// Tokens for which the experts of a layer are compared.
constexpr int64_t kComparedTokens = 64;

/// Sums over windows (rows of batches), from which mean and standard error follow.
struct Sums {
  std::vector<double> window_losses; ///< summed over the tokens of each window
  std::vector<double> window_tokens;
  int64_t bytes = 0;

  void append(const Sums& other) {
    window_losses.insert(
        window_losses.end(), other.window_losses.begin(), other.window_losses.end());
    window_tokens.insert(
        window_tokens.end(), other.window_tokens.begin(), other.window_tokens.end());
    bytes += other.bytes;
  }
};

TextScore score(const Sums& sums) {
  double loss_sum = 0.0;
  double tokens = 0.0;
  for (size_t i = 0; i < sums.window_losses.size(); ++i) {
    loss_sum += sums.window_losses[i];
    tokens += sums.window_tokens[i];
  }
  check(tokens > 0, "evaluation: there is no token to predict");
  TextScore result;
  result.loss = loss_sum / tokens;
  double squares = 0.0;
  for (size_t i = 0; i < sums.window_losses.size(); ++i) {
    const double residual = sums.window_losses[i] - sums.window_tokens[i] * result.loss;
    squares += residual * residual;
  }
  const auto windows = static_cast<double>(sums.window_losses.size());
  result.loss_stderr =
      windows > 1 ? std::sqrt(squares * windows / (windows - 1.0)) / tokens : 0.0;
  result.perplexity = std::exp(result.loss);
  result.tokens = static_cast<int64_t>(tokens);
  result.bytes = sums.bytes;
  result.bits_per_byte =
      sums.bytes > 0 ? loss_sum / std::log(2.0) / static_cast<double>(sums.bytes) : 0.0;
  return result;
}

void add_windows(Sums& sums, const torch::Tensor& losses, const torch::Tensor& mask) {
  const auto window_losses = (losses.to(torch::kFloat64) * mask).sum(1).to(torch::kCPU); // [B]
  const auto window_tokens = mask.sum(1).to(torch::kFloat64).to(torch::kCPU);
  for (int64_t b = 0; b < window_losses.size(0); ++b) {
    const double tokens = window_tokens[b].item<double>();
    if (tokens > 0) {
      sums.window_losses.push_back(window_losses[b].item<double>());
      sums.window_tokens.push_back(tokens);
    }
  }
}

/// Collects the experts of the first tokens of each domain.
class ExpertSample {
 public:
  ExpertSample(size_t layers, size_t domains)
      : parts_(layers), per_domain_(kSampledTokens / static_cast<int64_t>(domains)) {}

  void begin_domain() {
    wanted_ = per_domain_;
  }

  void add(const std::vector<Routing>& layers, const torch::Tensor& token_mask) {
    if (wanted_ <= 0) {
      return;
    }
    const auto positions = token_mask.nonzero().squeeze(1).slice(/*dim=*/0, 0, wanted_);
    for (size_t i = 0; i < layers.size(); ++i) {
      const Routing& routing = layers[i];
      const auto experts = routing.chosen.defined()
                               ? routing.experts.masked_fill(routing.chosen.logical_not(), -1)
                               : routing.experts;
      parts_[i].push_back(experts.index_select(0, positions).to(torch::kCPU));
    }
    wanted_ -= positions.size(0);
  }

  std::vector<torch::Tensor> experts() const {
    std::vector<torch::Tensor> experts;
    for (const auto& parts : parts_) {
      experts.push_back(torch::cat(parts));
    }
    return experts;
  }

 private:
  std::vector<std::vector<torch::Tensor>> parts_;
  int64_t per_domain_;
  int64_t wanted_ = 0;
};

/// Fills in how alike the experts of each layer are for tokens of all domains.
void compare_experts(
    DecoderLM& model,
    const std::vector<EvaluationDomain>& domains,
    std::vector<LayerRouting>& layers) {
  if (layers.empty()) {
    return;
  }
  const auto wanted =
      std::max<int64_t>(1, kComparedTokens / static_cast<int64_t>(domains.size()));
  std::vector<std::vector<torch::Tensor>> inputs(layers.size()); // [T, D]
  for (const auto& domain : domains) {
    const auto batch = domain.windows.batch(0).to(model->embedding->weight.device());
    const auto output = model->trace(batch.inputs, batch.documents);
    for (size_t i = 0; i < layers.size(); ++i) {
      const auto tokens = output.expert_inputs[i].flatten(0, 1); // [T, D]
      const auto step = std::max<int64_t>(1, tokens.size(0) / wanted);
      inputs[i].push_back(tokens.slice(/*dim=*/0, 0, wanted * step, step));
    }
  }
  for (size_t i = 0; i < layers.size(); ++i) {
    const auto block =
        model->layers->at<DecoderBlockImpl>(static_cast<size_t>(layers[i].layer)).moe;
    layers[i].similarity = expert_similarity(block, torch::cat(inputs[i]));
  }
}

} // namespace

void check_has_targets(const std::vector<EvaluationDomain>& domains) {
  for (const auto& domain : domains) {
    check(
        domain.windows.has_targets(),
        "evaluation: domain '",
        domain.name,
        "' has no token to predict; where replies begin after sequence_length, a larger one "
        "is needed, or else more text");
  }
}

Evaluation evaluate(DecoderLM model, const std::vector<EvaluationDomain>& domains) {
  check_has_targets(domains);
  const torch::NoGradGuard no_grad;
  const EvalModeGuard eval_mode(*model);
  const auto device = model->embedding->weight.device();
  const auto layers = moe_layers(model->options);
  RoutingCounter counter;
  ExpertSample sample(layers.size(), std::max<size_t>(1, domains.size()));
  Evaluation evaluation;
  Sums total;
  for (const auto& domain : domains) {
    Sums sums;
    sums.bytes = domain.windows.text_bytes();
    sample.begin_domain();
    for (int64_t i = 0; i < domain.windows.num_batches(); ++i) {
      const auto batch = domain.windows.batch(i).to(device);
      const auto output = model->forward(batch.inputs, batch.documents);
      const auto head = model->head_operands(output.hidden);
      const auto losses = token_losses(head.rows, head.weight, batch.targets);
      add_windows(sums, losses, batch.loss_mask);
      const auto token_mask = batch.loss_mask.reshape({-1}) > 0; // [T]
      counter.add(output.routing, token_mask);
      sample.add(output.routing, token_mask);
    }
    evaluation.domains.emplace_back(domain.name, score(sums));
    total.append(sums);
  }
  evaluation.total = score(total);
  evaluation.routing = counter.statistics(layers);
  evaluation.experts = sample.experts();
  compare_experts(model, domains, evaluation.routing);
  return evaluation;
}

} // namespace moe
