#include "moe/generation/token_loop.h"

#include <ATen/Parallel.h>

#include <algorithm>

#include "moe/generation/token_work_internal.h"
#include "moe/kernels/cpu_norm.h"

namespace moe {
namespace token_loop {

namespace {

std::vector<float> values_of(const at::Tensor& tensor) {
  const auto from = tensor.contiguous();
  const float* const first = from.const_data_ptr<float>();
  return {first, first + from.numel()};
}

std::vector<std::shared_ptr<const Angles>> angles_of_layers(
    const DecoderOptions& options, int64_t capacity) {
  const auto tables =
      rotary_tables(options, /*first=*/0, capacity, at::TensorOptions(at::kFloat));
  std::vector<std::shared_ptr<const Angles>> angles;
  for (size_t layer = 0; layer < tables.size(); ++layer) {
    const auto& table = tables[layer];
    const auto same = std::find_if(tables.begin(), tables.end(), [&](const RotaryTable& other) {
      return other.cos.is_same(table.cos);
    });
    if (same - tables.begin() < static_cast<int64_t>(layer)) {
      angles.push_back(angles[static_cast<size_t>(same - tables.begin())]);
    } else if (!table.cos.defined()) {
      angles.push_back(std::make_shared<const Angles>());
    } else {
      angles.push_back(std::make_shared<const Angles>(
          Angles{2 * table.cos.size(1), values_of(table.cos), values_of(table.sin)}));
    }
  }
  return angles;
}

} // namespace

Work::Work(const PackedDecoder& model_, int64_t max_tokens_, int64_t capacity)
    : model(model_),
      sizes(model_, max_tokens_),
      router(packed_router_options(model_.options)),
      max_tokens(max_tokens_),
      counters(kStagesPerLayer * static_cast<int64_t>(model_.layers.size()) + 1),
      residual(max_tokens_, sizes.options.model_dim),
      qkv(max_tokens_, sizes.qkv_dim),
      attended(max_tokens_, sizes.query_dim),
      hidden(sizes.max_members, sizes.max_width),
      router_logits(static_cast<size_t>(max_tokens_ * (sizes.options.num_experts + 1))),
      ones(static_cast<size_t>(sizes.max_width), 1.0F),
      angles(angles_of_layers(model_.options, capacity)) {
  for (int i = 0; i < at::get_num_threads(); ++i) {
    scratch.emplace_back(sizes, max_tokens, capacity);
  }
}

void Work::on_threads(const std::function<void(Scratch&)>& body) {
  counters.reset();
  for (auto& own : scratch) {
    own.normed_for = -1;
    own.planned_for = -1;
    own.heads_for = -1;
  }
  const auto threads = static_cast<int64_t>(scratch.size());
  at::parallel_for(0, threads, /*grain_size=*/1, [&](int64_t begin, int64_t end) {
    for (int64_t thread = begin; thread < end; ++thread) {
      body(scratch[thread]);
    }
  });
}

void Work::run(std::span<const NextToken> tokens, float* logits) {
  TORCH_CHECK(
      static_cast<int64_t>(tokens.size()) <= max_tokens,
      "TokenLoop: ",
      tokens.size(),
      " tokens in a loop made for ",
      max_tokens);
  const auto multiplier = static_cast<float>(sizes.options.embedding_multiplier);
  for (size_t t = 0; t < tokens.size(); ++t) {
    float* const values = residual.at(static_cast<int64_t>(t));
    unpack_rows(model.embedding, tokens[t].id, 1, values);
    for (int64_t i = 0; i < sizes.options.model_dim; ++i) {
      values[i] *= multiplier;
    }
  }
  on_threads([&](Scratch& own) {
    for (size_t layer = 0; layer < model.layers.size(); ++layer) {
      run_attention(layer, tokens, own);
      run_feed_forward(layer, static_cast<int64_t>(tokens.size()), own);
    }
    if (logits != nullptr) {
      run_head(static_cast<int64_t>(tokens.size()), logits, own);
    }
  });
}

/// Norm number `norm`, two per layer and the last, of the residuals of all tokens.
void Work::normalize(int64_t norm, int64_t count, Scratch& own) {
  if (own.normed_for == norm) {
    return;
  }
  own.normed_for = norm;
  const auto layer = static_cast<size_t>(norm / 2);
  const auto& weight = layer == model.layers.size() ? model.final_norm
                       : norm % 2 == 0              ? model.layers[layer].attention_norm
                                                    : model.layers[layer].feed_forward_norm;
  const auto epsilon = static_cast<float>(sizes.options.norm.epsilon);
  float root = 0.0F;
  for (int64_t t = 0; t < count; ++t) {
    cpu::norm_rows(
        1,
        sizes.options.model_dim,
        epsilon,
        residual.at(t),
        weight.data(),
        own.normed.values(t),
        &root);
    own.normed.pack(t, model.type);
  }
}

void Work::run_head(int64_t count, float* logits, Scratch& own) {
  const auto layers = static_cast<int64_t>(model.layers.size());
  const int64_t vocab = sizes.options.vocab_size;
  const int64_t rows = panel_rows(model.head.row_bytes(), vocab);
  counters.run(
      kStagesPerLayer * layers,
      ceil_div(vocab, rows),
      [&] { normalize(2 * layers, count, own); },
      [&](int64_t task) {
        const auto panel = panel_of(task, rows, vocab);
        for (int64_t t = 0; t < count; ++t) {
          float* const out = logits + t * vocab + panel.first;
          multiply_rows(model.head, panel.first, panel.count, own.normed[t], out);
          add_bias(data_or_null(model.head_bias), panel.first, panel.count, out);
          for (int64_t i = 0; i < panel.count; ++i) {
            out[i] *= sizes.logits_multiplier;
          }
        }
      });
}

} // namespace token_loop

TokenLoop::TokenLoop(const PackedDecoder& model, int64_t max_tokens, int64_t capacity)
    : work_(std::make_unique<token_loop::Work>(model, max_tokens, capacity)) {}

TokenLoop::~TokenLoop() = default;
TokenLoop::TokenLoop(TokenLoop&&) noexcept = default;

void TokenLoop::run(std::span<const NextToken> tokens, float* logits) {
  work_->run(tokens, logits);
}

void TokenLoop::head(const float* hidden, float* logits) {
  std::copy_n(hidden, work_->sizes.options.model_dim, work_->residual.at(0));
  work_->on_threads([&](token_loop::Scratch& own) { work_->run_head(1, logits, own); });
}

} // namespace moe
