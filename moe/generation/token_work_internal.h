#pragma once

// Private to the library: what the threads of a `TokenLoop` share.

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "moe/generation/routing_plan.h"
#include "moe/generation/stage_counters.h"
#include "moe/generation/token_loop.h"

namespace moe::token_loop {

// A task reads about so many bytes of weights: long enough to hide the taking of a task, short
// enough that threads end a stage together.
constexpr int64_t kTaskBytes = 32 * 1024;

// The stages of a layer, in their order.
enum Stage : int64_t { project, attend, attention_output, route, expert_up, expert_down };
constexpr int64_t kStagesPerLayer = 6;

/// Rows of a matrix that are one task.
inline int64_t panel_rows(int64_t row_bytes, int64_t rows) {
  const int64_t wanted = std::max<int64_t>(4, kTaskBytes / row_bytes / 4 * 4);
  return std::min(wanted, rows);
}

inline int64_t ceil_div(int64_t value, int64_t divisor) {
  return (value + divisor - 1) / divisor;
}

struct Panel {
  int64_t first;
  int64_t count;
};

inline Panel panel_of(int64_t task, int64_t size, int64_t rows) {
  return {task * size, std::min(size, rows - task * size)};
}

/// Adds bias[first], ... to `values` [count]; nothing if `bias` is null.
inline void add_bias(const float* bias, int64_t first, int64_t count, float* values) {
  for (int64_t i = 0; i < count && bias != nullptr; ++i) {
    values[i] += bias[first + i];
  }
}

/// Vectors of some tokens, padded with zeros as products want them.
class Vectors {
 public:
  Vectors(int64_t count, int64_t columns)
      : columns_(columns),
        stride_(padded_columns(columns)),
        values_(static_cast<size_t>(count * stride_)),
        quantized_(static_cast<size_t>(count * stride_)),
        packed_(static_cast<size_t>(count)) {}

  float* values(int64_t i) {
    return values_.data() + i * stride_;
  }
  /// Makes vector i ready from its own values, or those of another.
  void pack(int64_t i, WeightType type) {
    pack_from(i, type, values(i), columns_);
  }
  void pack_from(int64_t i, WeightType type, const float* values, int64_t columns) {
    packed_[i] = pack_vector(type, columns, values, quantized_.data() + i * stride_);
  }
  const PackedVector& operator[](int64_t i) const {
    return packed_[i];
  }

 private:
  int64_t columns_;
  int64_t stride_;
  std::vector<float> values_;
  std::vector<int16_t> quantized_;
  std::vector<PackedVector> packed_;
};

/// Vectors that all threads see; each thread packs them for itself.
struct SharedVectors {
  SharedVectors(int64_t count, int64_t columns)
      : stride(padded_columns(columns)), values(static_cast<size_t>(count * stride)) {}
  float* at(int64_t i) {
    return values.data() + i * stride;
  }
  int64_t stride;
  std::vector<float> values;
};

/// Networks that one token goes through in a layer.
inline int64_t members_of(const PackedLayer& layer, const DecoderOptions& options) {
  const int64_t chosen = layer.router.rows > 0 ? options.experts_per_token : 1;
  return layer.shared_expert.experts > 0 ? chosen + 1 : chosen;
}

struct Sizes {
  Sizes(const PackedDecoder& model, int64_t max_tokens)
      : options(model.options),
        residual_multiplier(static_cast<float>(options.residual_multiplier)),
        logits_multiplier(static_cast<float>(options.logits_multiplier)),
        head_dim(resolved_head_dim(options)),
        attention_multiplier(
            options.attention.multiplier == 0.0
                ? 1.0F / std::sqrt(static_cast<float>(head_dim))
                : static_cast<float>(options.attention.multiplier)),
        kv_heads(resolved_num_kv_heads(options)),
        query_dim(options.attention.num_heads * head_dim),
        qkv_dim(query_dim + 2 * kv_heads * head_dim) {
    for (const auto& layer : model.layers) {
      max_members = std::max(max_members, members_of(layer, options) * max_tokens);
      max_width = std::max({max_width, layer.experts.width, layer.shared_expert.width});
    }
  }

  const DecoderOptions& options;
  float residual_multiplier;
  float logits_multiplier;
  int64_t head_dim;
  float attention_multiplier;
  int64_t kv_heads;
  int64_t query_dim;
  int64_t qkv_dim;
  int64_t max_members = 0;
  int64_t max_width = 0;
};

/// What one thread works in.
struct Scratch {
  Scratch(const Sizes& sizes, int64_t max_tokens, int64_t capacity)
      : normed(max_tokens, sizes.options.model_dim),
        attended(max_tokens, sizes.query_dim),
        hidden(sizes.max_members, sizes.max_width),
        scores(static_cast<size_t>(capacity + 1)),
        normed_heads(static_cast<size_t>(sizes.qkv_dim)),
        gathered(static_cast<size_t>(2 * sizes.qkv_dim)),
        roots(static_cast<size_t>(sizes.options.attention.num_heads + 1)),
        gate(static_cast<size_t>(sizes.max_width)),
        up(static_cast<size_t>(sizes.max_width)),
        result(static_cast<size_t>(sizes.options.model_dim)) {}

  Vectors normed;
  Vectors attended;
  Vectors hidden;
  RoutingPlan plan;
  int64_t normed_for = -1; ///< the norm (two per layer, then the last) that `normed` holds
  int64_t planned_for = -1;
  std::vector<float> scores;
  int64_t heads_for = -1;          ///< the token of a layer that `normed_heads` holds
  std::vector<float> normed_heads; ///< queries and keys under a norm of all heads together
  std::vector<float> gathered;     ///< the heads of an attention task, then these turned
  std::vector<float> roots;
  std::vector<float> gate;
  std::vector<float> up;
  std::vector<float> result;
};

/// Angles of all positions, [capacity, dim / 2]; those of a layer without positions have a
/// `dim` of 0.
struct Angles {
  int64_t dim = 0;
  std::vector<float> cos;
  std::vector<float> sin;
};

/// A `TokenLoop` from the inside: what is shared, and the stages as every thread runs them.
struct Work {
  Work(const PackedDecoder& model_, int64_t max_tokens_, int64_t capacity);

  void run(std::span<const NextToken> tokens, float* logits);

  // The stages, as every thread runs them.
  void run_attention(size_t layer, std::span<const NextToken> tokens, Scratch& own);
  void run_feed_forward(size_t layer, int64_t count, Scratch& own);
  void run_head(int64_t count, float* logits, Scratch& own);

  // Their parts.
  void normalize(int64_t norm, int64_t count, Scratch& own);
  void plan(size_t layer, int64_t count, Scratch& own);
  void route_rows(const PackedLayer& layer, int64_t task, int64_t count, Scratch& own);
  const float* heads_of(int64_t t, size_t layer, Scratch& own);
  template <typename Cached>
  void attend_head(const NextToken& token, int64_t t, size_t layer, int64_t head, Scratch& own);
  void compute_hidden(const PlanGroup& group, int64_t first, int64_t features, Scratch& own);
  void add_results(Panel panel, Scratch& own);
  void on_threads(const std::function<void(Scratch&)>& body);

  int64_t stage_of(size_t layer, Stage stage) const {
    return static_cast<int64_t>(layer) * kStagesPerLayer + stage;
  }

  const PackedDecoder& model;
  Sizes sizes;
  TopKRouterOptions router;
  int64_t max_tokens;
  StageCounters counters;
  SharedVectors residual;
  SharedVectors qkv;
  SharedVectors attended;
  SharedVectors hidden;
  std::vector<float> router_logits; // [tokens, E + 1]
  std::vector<float> ones;
  std::vector<std::shared_ptr<const Angles>> angles; // one per layer, shared by equal ones
  std::vector<Scratch> scratch;                      // one per thread
};

} // namespace moe::token_loop
