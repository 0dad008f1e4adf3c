#include "moe/evaluation/evaluator.h"

#include <cmath>

#include "moe/decoder/next_token_loss.h"
#include "moe/error.h"

namespace moe {
namespace {

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

void add_counts(
    std::vector<torch::Tensor>& counts,
    const DecoderOutput& output,
    const torch::Tensor& mask) {
  const auto token_mask = mask.reshape({-1}) > 0; // [T]
  for (size_t i = 0; i < output.routing.size(); ++i) {
    const auto rows = expert_counts(output.routing[i], token_mask);
    counts[i] = counts[i].defined() ? counts[i] + rows : rows;
  }
}

} // namespace

Evaluation evaluate(DecoderLM model, const std::vector<EvaluationDomain>& domains) {
  const torch::NoGradGuard no_grad;
  const bool was_training = model->is_training();
  model->eval();
  const auto device = model->embedding->weight.device();
  const auto layers = moe_layers(model->options);
  std::vector<torch::Tensor> counts(layers.size());
  Evaluation evaluation;
  Sums total;
  for (const auto& domain : domains) {
    Sums sums;
    sums.bytes = domain.windows.text_bytes();
    for (int64_t i = 0; i < domain.windows.num_batches(); ++i) {
      const auto batch = domain.windows.batch(i).to(device);
      const auto output = model->forward(batch.inputs, batch.documents);
      const auto head = model->head_operands(output.hidden);
      const auto losses = token_losses(head.rows, head.weight, batch.targets);
      add_windows(sums, losses, batch.loss_mask);
      add_counts(counts, output, batch.loss_mask);
    }
    evaluation.domains.emplace_back(domain.name, score(sums));
    total.append(sums);
  }
  evaluation.total = score(total);
  for (size_t i = 0; i < layers.size(); ++i) {
    evaluation.routing.push_back(layer_routing(layers[i], counts_on_host(counts[i])));
  }
  model->train(was_training);
  return evaluation;
}

} // namespace moe
