#include "moe/editing/upcycle.h"

#include <cmath>

#include "moe/editing/seeded.h"
#include "moe/error.h"

namespace moe {
namespace {

// What a random generator is for.
enum Purpose : int64_t { for_router, for_units, for_up_values, for_down_values };

void check_upcycle(const DecoderOptions& model, const UpcycleOptions& options) {
  check(
      model.num_experts == 0,
      "upcycle: the model has experts already; only dense models can be upcycled");
  check(
      options.parts >= 1 && model.dense_dim % options.parts == 0,
      "parts: ",
      options.parts,
      " does not divide dense_dim (",
      model.dense_dim,
      ")");
  check(
      options.experts >= 1 && options.experts % options.parts == 0,
      "experts: ",
      options.experts,
      " is not a multiple of parts (",
      options.parts,
      ")");
  check(
      options.experts_per_token >= 1 && options.experts_per_token <= options.experts &&
          options.experts_per_token % options.parts == 0,
      "experts_per_token: ",
      options.experts_per_token,
      " is not a multiple of parts (",
      options.parts,
      ") up to experts (",
      options.experts,
      ")");
  check(
      options.reinitialize >= 0.0 && options.reinitialize <= 1.0,
      "reinitialize: ",
      options.reinitialize,
      " is not possible; 0 to 1");
}

DecoderOptions upcycled_options(const DecoderOptions& model, const UpcycleOptions& options) {
  DecoderOptions result = model;
  result.num_experts = options.experts;
  result.experts_per_token = options.experts_per_token;
  result.expert_dim = model.dense_dim / options.parts;
  result.expert_bias = model.expert_bias || model.feed_forward_bias;
  result.feed_forward_bias = false;
  result.router.normalize_weights = true;
  result.dense_layers.clear();
  for (int64_t layer = 0; !options.layers.empty() && layer < model.num_layers; ++layer) {
    if (!names_layer(options.layers, layer)) {
      result.dense_layers.push_back(layer);
    }
  }
  return result;
}

/// Which expert a tensor is made for.
struct Piece {
  int64_t layer = 0;
  int64_t expert = 0;
  int64_t parts = 1;
  double reinitialize = 0.0;
  int64_t seed = 0;
};

/// The hidden units of an expert that are drawn anew.
torch::Tensor drawn_units(const Piece& piece, int64_t hidden) {
  auto generator = seeded_generator({piece.seed, for_units, piece.layer, piece.expert});
  const auto count =
      static_cast<int64_t>(std::floor(piece.reinitialize * static_cast<double>(hidden)));
  return torch::randperm(hidden, generator, torch::kInt64).slice(0, 0, count);
}

/// Draws the units along dimension `dim` of a matrix anew; changes it in place.
void draw_units(
    torch::Tensor matrix, int64_t dim, const Piece& piece, at::Generator generator) {
  const auto units = drawn_units(piece, matrix.size(dim));
  if (units.numel() == 0) {
    return;
  }
  const auto old = matrix.index_select(dim, units).to(torch::kFloat32);
  const auto drawn = torch::randn(old.sizes(), generator, torch::kFloat32);
  const auto values = drawn * old.std(/*unbiased=*/false) + old.mean();
  matrix.index_copy_(dim, units, values.to(matrix.scalar_type()));
}

/// [2F, D] or [F, D] (or without D) -> the same of one part of the hidden units.
torch::Tensor up_piece(const torch::Tensor& up, bool gated, const Piece& piece) {
  auto shape = up.sizes().vec();
  const int64_t matrices = gated ? 2 : 1;
  const int64_t hidden = shape[0] / matrices / piece.parts;
  shape[0] = hidden;
  shape.insert(shape.begin(), matrices);
  auto by_matrix_shape = shape;
  by_matrix_shape[1] = hidden * piece.parts;
  const int64_t part = piece.expert % piece.parts;
  auto result = up.view(by_matrix_shape).narrow(1, part * hidden, hidden).clone();
  auto generator = seeded_generator({piece.seed, for_up_values, piece.layer, piece.expert});
  for (int64_t i = 0; up.dim() == 2 && i < matrices; ++i) {
    draw_units(result[i], /*dim=*/0, piece, generator);
  }
  return result.flatten(0, 1);
}

/// [D, F] -> [D, F / G].
torch::Tensor down_piece(const torch::Tensor& down, const Piece& piece) {
  const int64_t hidden = down.size(1) / piece.parts;
  auto result = down.narrow(1, piece.expert % piece.parts * hidden, hidden) *
                static_cast<double>(piece.parts);
  draw_units(
      result,
      /*dim=*/1,
      piece,
      seeded_generator({piece.seed, for_down_values, piece.layer, piece.expert}));
  return result;
}

torch::Tensor piece_of(
    const std::string& kind, bool gated, const torch::Tensor& whole, const Piece& piece) {
  if (kind == "down_proj") {
    return down_piece(whole, piece);
  }
  // Whole groups are chosen, so the bias of each part has weight 1 in sum.
  return kind == "down_bias" ? whole : up_piece(whole, gated, piece);
}

/// The rows of each group are the same: then a token that chooses one of them chooses all.
torch::Tensor random_rows(
    int64_t layer, const DecoderOptions& model, const UpcycleOptions& options) {
  auto generator = seeded_generator({options.seed, for_router, layer});
  const auto rows = torch::randn(
      {options.experts / options.parts, model.model_dim}, generator, torch::kFloat32);
  return (rows * model.initializer_range).repeat_interleave(options.parts, /*dim=*/0);
}

} // namespace

EditedModel upcycle(const ModelFolder& source, const UpcycleOptions& options) {
  const auto& model = source.options();
  check_upcycle(model, options);
  for (const int64_t layer : options.layers) {
    check(
        layer >= 0 && layer < model.num_layers,
        "layers: there is no layer ",
        layer,
        "; layers are 0 to ",
        model.num_layers - 1);
  }
  EditedModel result;
  result.options = upcycled_options(model, options);
  const auto dense = source.lazy_tensors();
  for (const NamedShape& tensor : decoder_tensors(result.options)) {
    if (const auto same = dense.find(tensor.name); same != dense.end()) {
      result.tensors[tensor.name] = same->second;
      continue;
    }
    const size_t end_of_layer = tensor.name.find(".moe.");
    const int64_t layer = std::stoll(tensor.name.substr(std::string("layers.").size()));
    const std::string kind = tensor.name.substr(end_of_layer + std::string(".moe.").size());
    if (kind == "router.weight") {
      const auto type = dense.at("embedding.weight").type;
      const auto make = [layer, model, options, type] {
        return random_rows(layer, model, options).to(type);
      };
      result.tensors[tensor.name] = {tensor.shape, type, make};
      continue;
    }
    const auto& whole = dense.at(tensor.name.substr(0, end_of_layer) + ".feed_forward." + kind);
    const auto make = [whole, kind, layer, gated = model.expert.gated, options] {
      const auto network = whole.make();
      std::vector<torch::Tensor> experts;
      for (int64_t expert = 0; expert < options.experts; ++expert) {
        const Piece piece{layer, expert, options.parts, options.reinitialize, options.seed};
        experts.push_back(piece_of(kind, gated, network, piece));
      }
      return torch::stack(experts);
    };
    result.tensors[tensor.name] = {tensor.shape, whole.type, make};
  }
  if (options.experts_per_token == 1) {
    result.report.push_back(
        "with one expert per token the weight is always 1, so the loss teaches the router "
        "nothing");
  }
  return result;
}

} // namespace moe
