#include "moe/evaluation/record_routing.h"

#include <algorithm>
#include <numeric>

#include "moe/error.h"
#include "moe/evaluation/eval_mode_guard.h"

namespace moe {
namespace {

/// The pieces of all domains one behind the other, and their ids; nothing of layers yet.
RoutingRecord read_pieces(
    const std::vector<RecordedDomain>& domains, const RecordOptions& options) {
  RoutingRecord record;
  for (size_t d = 0; d < domains.size(); ++d) {
    record.domains.push_back(domains[d].name);
    const auto chosen = choose_pieces(
        domains[d].tokens,
        static_cast<int64_t>(d),
        options.max_tokens,
        options.piece_length,
        options.seed);
    for (auto piece : chosen) {
      std::vector<int64_t> ids(static_cast<size_t>(piece.end - piece.begin));
      domains[d].tokens.read(piece.begin, ids);
      piece.begin = record.num_tokens();
      record.ids.insert(record.ids.end(), ids.begin(), ids.end());
      piece.end = record.num_tokens();
      record.pieces.push_back(piece);
    }
  }
  return record;
}

int64_t piece_size(const TextPiece& piece) {
  return piece.end - piece.begin;
}

/// Indices of the pieces, long ones first, so that those of a batch need little padding.
std::vector<size_t> by_length(const std::vector<TextPiece>& pieces) {
  std::vector<size_t> order(pieces.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return piece_size(pieces[a]) > piece_size(pieces[b]);
  });
  return order;
}

/// The pieces as rows [B, S] with zeros behind the shorter ones: what is behind a token does
/// not change its routing.
torch::Tensor padded_ids(const RoutingRecord& record, std::span<const size_t> batch) {
  const auto rows = static_cast<int64_t>(batch.size());
  auto ids = torch::zeros({rows, piece_size(record.pieces[batch.front()])}, torch::kInt64);
  for (int64_t row = 0; row < rows; ++row) {
    const auto& piece = record.pieces[batch[static_cast<size_t>(row)]];
    std::copy(
        record.ids.begin() + piece.begin,
        record.ids.begin() + piece.end,
        ids[row].mutable_data_ptr<int64_t>());
  }
  return ids;
}

void record_layer(
    const RoutingRecord& record,
    std::span<const size_t> batch,
    int64_t row_length,
    const Routing& routing,
    RecordedLayer& layer) {
  const int64_t per_token = routing.experts.size(1);
  auto chosen = routing.experts; // [T, K]
  if (routing.kept.defined()) {
    chosen = chosen.masked_fill(routing.kept.logical_not(), -1);
  }
  const auto experts = chosen.to(torch::kCPU, torch::kInt32).contiguous();            // [T, K]
  const auto weights = routing.weights.to(torch::kCPU, torch::kFloat32).contiguous(); // [T, K]
  layer.num_experts = routing.scores.size(1);
  layer.experts_per_token = per_token;
  layer.experts.resize(record.ids.size() * static_cast<size_t>(per_token));
  layer.weights.resize(layer.experts.size());
  for (size_t row = 0; row < batch.size(); ++row) {
    const auto& piece = record.pieces[batch[row]];
    const int64_t from = static_cast<int64_t>(row) * row_length * per_token;
    const int64_t to = piece.begin * per_token;
    const int64_t count = piece_size(piece) * per_token;
    std::copy_n(experts.const_data_ptr<int32_t>() + from, count, layer.experts.begin() + to);
    std::copy_n(weights.const_data_ptr<float>() + from, count, layer.weights.begin() + to);
  }
}

} // namespace

RoutingRecord record_routing(
    DecoderLM model, const std::vector<RecordedDomain>& domains, const RecordOptions& options) {
  const auto layers = moe_layers(model->options);
  check(!layers.empty(), "routing: the model has no layer with experts");
  check(
      options.piece_length <= model->options.context_length,
      "routing: pieces of ",
      options.piece_length,
      " tokens are more than the model's context of ",
      model->options.context_length);
  const torch::NoGradGuard no_grad;
  const EvalModeGuard eval_mode(*model);
  auto record = read_pieces(domains, options);
  for (const int64_t layer : layers) {
    record.layers.push_back({.layer = layer});
  }
  const auto order = by_length(record.pieces);
  const auto batch_size = static_cast<size_t>(options.batch_size);
  for (size_t first = 0; first < order.size(); first += batch_size) {
    const auto batch =
        std::span(order).subspan(first, std::min(batch_size, order.size() - first));
    const auto ids = padded_ids(record, batch);
    const auto output = model->forward(ids.to(model->embedding->weight.device()));
    for (size_t i = 0; i < layers.size(); ++i) {
      record_layer(record, batch, ids.size(1), output.routing[i], record.layers[i]);
    }
  }
  return record;
}

} // namespace moe
