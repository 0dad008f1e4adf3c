#include <c10/util/Half.h>

#include <algorithm>

#include "moe/generation/token_work_internal.h"
#include "moe/kernels/attend_row.h"
#include "moe/kernels/cpu_norm.h"

namespace moe::token_loop {
namespace {

/// Where the key or value of a token is computed: in the cache, or in a spare place.
float* place_to_compute(float* cached, float* /*spare*/) {
  return cached;
}
float* place_to_compute(Float16* /*cached*/, float* spare) {
  return spare;
}

/// Puts what was computed there into the cache.
void put(const float* /*computed*/, int64_t /*count*/, float* /*cached*/) {}
void put(const float* computed, int64_t count, Float16* cached) {
  for (int64_t i = 0; i < count; ++i) {
    cached[i] = {c10::Half(computed[i]).x};
  }
}

} // namespace

void Work::run_attention(size_t layer, std::span<const NextToken> tokens, Scratch& own) {
  const auto& weights = model.layers[layer];
  const auto count = static_cast<int64_t>(tokens.size());
  const auto norm = 2 * static_cast<int64_t>(layer);
  const int64_t rows = panel_rows(weights.qkv.row_bytes(), sizes.qkv_dim);
  counters.run(
      stage_of(layer, project),
      ceil_div(sizes.qkv_dim, rows),
      [&] { normalize(norm, count, own); },
      [&](int64_t task) {
        const auto panel = panel_of(task, rows, sizes.qkv_dim);
        for (int64_t t = 0; t < count; ++t) {
          float* const out = qkv.at(t) + panel.first;
          multiply_rows(weights.qkv, panel.first, panel.count, own.normed[t], out);
          add_bias(data_or_null(weights.qkv_bias), panel.first, panel.count, out);
        }
      });
  counters.run(
      stage_of(layer, attend),
      count * sizes.kv_heads,
      [] {},
      [&](int64_t task) {
        const int64_t t = task / sizes.kv_heads;
        const int64_t head = task % sizes.kv_heads;
        if (model.has_half_cache()) {
          attend_head<Float16>(tokens[t], t, layer, head, own);
        } else {
          attend_head<float>(tokens[t], t, layer, head, own);
        }
      });
  const int64_t out_rows = panel_rows(weights.o.row_bytes(), sizes.options.model_dim);
  counters.run(
      stage_of(layer, attention_output),
      ceil_div(sizes.options.model_dim, out_rows),
      [&] {
        for (int64_t t = 0; t < count; ++t) {
          own.attended.pack_from(t, model.type, attended.at(t), sizes.query_dim);
        }
      },
      [&](int64_t task) {
        const auto panel = panel_of(task, out_rows, sizes.options.model_dim);
        for (int64_t t = 0; t < count; ++t) {
          float* const to = residual.at(t) + panel.first;
          multiply_rows(
              weights.o, panel.first, panel.count, own.attended[t], own.result.data());
          add_bias(data_or_null(weights.o_bias), panel.first, panel.count, own.result.data());
          for (int64_t i = 0; i < panel.count; ++i) {
            to[i] += sizes.residual_multiplier * own.result[i];
          }
        }
      });
}

/// The projection of a token [(H + 2 Hkv) · head_dim]; where a norm goes over all heads
/// together, with queries and keys normed.
const float* Work::heads_of(int64_t t, size_t layer, Scratch& own) {
  const auto& weights = model.layers[layer];
  if (static_cast<int64_t>(weights.q_norm.size()) <= sizes.head_dim) {
    return qkv.at(t);
  }
  const auto token = static_cast<int64_t>(layer) * max_tokens + t;
  if (own.heads_for != token) {
    own.heads_for = token;
    const auto epsilon = static_cast<float>(sizes.options.norm.epsilon);
    const float* const from = qkv.at(t);
    float* const to = own.normed_heads.data();
    const auto key_dim = static_cast<int64_t>(weights.k_norm.size());
    float root = 0.0F;
    cpu::norm_rows(1, sizes.query_dim, epsilon, from, weights.q_norm.data(), to, &root);
    cpu::norm_rows(
        1,
        key_dim,
        epsilon,
        from + sizes.query_dim,
        weights.k_norm.data(),
        to + sizes.query_dim,
        &root);
    std::copy_n(from + sizes.query_dim + key_dim, key_dim, to + sizes.query_dim + key_dim);
  }
  return own.normed_heads.data();
}

/// The query heads of one key and value head: normed, turned, cached, attended. `Cached` is a
/// number of the cache.
template <typename Cached>
void Work::attend_head(
    const NextToken& token, int64_t t, size_t layer, int64_t head, Scratch& own) {
  const auto& weights = model.layers[layer];
  const int64_t dim = sizes.head_dim;
  const int64_t group = sizes.options.attention.num_heads / sizes.kv_heads;
  const cpu::HeadShape shape{group, 1, dim};
  // The group's queries, its key and its value lie apart in the projection.
  const float* const projected = heads_of(t, layer, own);
  const bool by_head = weights.q_norm.size() == static_cast<size_t>(dim);
  float* const gathered = own.gathered.data();
  float* const queries = gathered + shape.width();
  float* const spare = queries + group * dim;
  const float* const keys = projected + sizes.query_dim + head * dim;
  std::copy_n(projected + head * group * dim, group * dim, gathered);
  std::copy_n(keys, dim, gathered + group * dim);
  std::copy_n(keys + sizes.kv_heads * dim, dim, gathered + (group + 1) * dim);
  const auto cached = [&](void* memory, int64_t position) {
    return static_cast<Cached*>(memory) + (head * token.capacity + position) * dim;
  };
  const LayerCache& cache = token.layers[layer];
  Cached* const key = cached(cache.keys, token.position);
  Cached* const value = cached(cache.values, token.position);
  float* const computed_key = place_to_compute(key, spare);
  float* const computed_value = place_to_compute(value, spare + dim);
  cpu::turn_heads(
      1,
      token.position,
      shape,
      {by_head ? weights.q_norm.data() : nullptr,
       by_head ? weights.k_norm.data() : nullptr,
       static_cast<float>(sizes.options.norm.epsilon),
       angles[layer]->dim,
       angles[layer]->cos.data(),
       angles[layer]->sin.data()},
      {gathered, queries, computed_key, computed_value, own.roots.data()});
  put(computed_key, dim, key);
  put(computed_value, dim, value);
  const int64_t window = weights.sliding_window;
  const int64_t first = window > 0 ? std::max<int64_t>(0, token.position - window + 1) : 0;
  for (int64_t query = 0; query < group; ++query) {
    attend_row(
        token.position - first + 1,
        dim,
        sizes.attention_multiplier,
        weights.sinks.empty() ? nullptr : &weights.sinks[head * group + query],
        queries + query * dim,
        cached(cache.keys, first),
        cached(cache.values, first),
        own.scores.data(),
        attended.at(t) + (head * group + query) * dim);
  }
}

} // namespace moe::token_loop
