#include "moe/layers/attention_pattern.h"

#include <algorithm>
#include <cmath>

#include "moe/kernels/attention.h"
#include "moe/layers/causal_self_attention.h"
#include "moe/libtorch.h"

namespace moe {
namespace {

/// Which of the keys `first_key` to `end - 1` each of the queries `first_query` to `end - 1`
/// sees: [queries, keys].
torch::Tensor visible_keys(
    int64_t first_query,
    int64_t first_key,
    int64_t end,
    int64_t sliding_window,
    const torch::Device& device) {
  const auto options = torch::TensorOptions().dtype(torch::kInt64).device(device);
  const auto query = torch::arange(first_query, end, options).unsqueeze(1);
  const auto key = torch::arange(first_key, end, options);
  const auto distance = query - key;
  const auto visible = distance >= 0;
  return sliding_window > 0 ? visible.logical_and(distance < sliding_window) : visible;
}

torch::Tensor attend_masked(
    const torch::Tensor& queries,
    const torch::Tensor& keys,
    const torch::Tensor& values,
    const std::optional<torch::Tensor>& mask) {
  return at::scaled_dot_product_attention(
      queries,
      keys,
      values,
      mask,
      /*dropout_p=*/0.0,
      /*is_causal=*/false,
      /*scale=*/std::nullopt,
      /*enable_gqa=*/queries.size(1) != keys.size(1));
}

int64_t first_visible(int64_t first_query, int64_t sliding_window) {
  return sliding_window > 0 ? std::max<int64_t>(0, first_query - sliding_window + 1) : 0;
}

/// Queries with the default scale and no sinks that continue `first` tokens.
torch::Tensor attend_plain(
    const torch::Tensor& queries,
    const torch::Tensor& keys,
    const torch::Tensor& values,
    int64_t sliding_window) {
  const int64_t end = keys.size(2);
  const int64_t first = end - queries.size(2);
  if (first == 0) {
    return causal_attention(queries, keys, values, sliding_window);
  }
  const int64_t first_key = first_visible(first, sliding_window);
  const auto seen_keys = keys.slice(/*dim=*/2, first_key);
  const auto seen_values = values.slice(/*dim=*/2, first_key);
  if (first == end - 1) {
    return attend_masked(queries, seen_keys, seen_values, std::nullopt);
  }
  const auto mask = visible_keys(first, first_key, end, sliding_window, queries.device());
  return attend_masked(queries, seen_keys, seen_values, mask);
}

/// A sink joins the softmax as a key with a value of zero. Its score is the product of an
/// additional element of the head: the sink in every query, 1 in the sink's key and 0 in the
/// others.
torch::Tensor attend_with_sinks(
    const torch::Tensor& queries,
    const torch::Tensor& keys,
    const torch::Tensor& values,
    const AttentionPattern& pattern) {
  const int64_t length = queries.size(2);
  const int64_t end = keys.size(2);
  const int64_t first = end - length;
  const int64_t head_dim = queries.size(3);
  const auto widen = [](const torch::Tensor& tensor) {
    return torch::constant_pad_nd(tensor, {0, 1});
  };
  const auto scores = pattern.sinks.to(queries.scalar_type()).view({1, -1, 1, 1});
  // The default scale is now that of a wider head.
  const double wider = std::sqrt(static_cast<double>(head_dim + 1));
  const auto wide_queries = torch::cat(
      {queries * (wider / std::sqrt(static_cast<double>(head_dim))),
       (scores * wider).expand({queries.size(0), -1, length, 1})},
      /*dim=*/-1);
  const auto sink_key = torch::zeros(
      {keys.size(0), keys.size(1), 1, head_dim + 1}, keys.options().requires_grad(false));
  const auto sink_value = torch::zeros_like(sink_key);
  sink_key.select(/*dim=*/-1, head_dim).fill_(1.0);
  if (first == 0 && pattern.sliding_window == 0) {
    // A query in front of all makes plain causal attention of it; nobody asks for its result.
    return causal_attention(
               torch::constant_pad_nd(wide_queries, {0, 0, 1, 0}),
               torch::cat({sink_key, widen(keys)}, /*dim=*/2),
               torch::cat({sink_value, widen(values)}, /*dim=*/2),
               /*sliding_window=*/0)
        .slice(/*dim=*/2, 1)
        .slice(/*dim=*/3, 0, head_dim);
  }
  const int64_t block = pattern.sliding_window > 0 ? pattern.sliding_window : length;
  std::vector<torch::Tensor> parts;
  for (int64_t begin = first; begin < end; begin += block) {
    const int64_t stop = std::min(begin + block, end);
    const int64_t first_key = first_visible(begin, pattern.sliding_window);
    const auto mask = torch::constant_pad_nd(
        visible_keys(begin, first_key, stop, pattern.sliding_window, queries.device()),
        {1, 0},
        /*value=*/true);
    parts.push_back(attend_masked(
        wide_queries.slice(/*dim=*/2, begin - first, stop - first),
        torch::cat({sink_key, widen(keys.slice(/*dim=*/2, first_key, stop))}, /*dim=*/2),
        torch::cat({sink_value, widen(values.slice(/*dim=*/2, first_key, stop))}, /*dim=*/2),
        mask));
  }
  return torch::cat(parts, /*dim=*/2).slice(/*dim=*/3, 0, head_dim);
}

torch::Tensor attend_in_chunks(
    const torch::Tensor& queries,
    const torch::Tensor& keys,
    const torch::Tensor& values,
    const AttentionPattern& pattern) {
  const int64_t end = keys.size(2);
  const int64_t first = end - queries.size(2);
  AttentionPattern within = pattern;
  within.chunk = 0;
  std::vector<torch::Tensor> parts;
  for (int64_t begin = first; begin < end;) {
    const int64_t chunk_begin = begin / pattern.chunk * pattern.chunk;
    const int64_t stop = std::min(chunk_begin + pattern.chunk, end);
    parts.push_back(attend(
        queries.slice(/*dim=*/2, begin - first, stop - first),
        keys.slice(/*dim=*/2, chunk_begin, stop),
        values.slice(/*dim=*/2, chunk_begin, stop),
        within));
    begin = stop;
  }
  return parts.size() == 1 ? parts[0] : torch::cat(parts, /*dim=*/2);
}

/// Values as wide as keys.
torch::Tensor padded_values(const torch::Tensor& values, int64_t head_dim) {
  const int64_t missing = head_dim - values.size(3);
  TORCH_CHECK(
      missing >= 0, "attend: values of ", values.size(3), " are wider than keys of ", head_dim);
  return missing == 0 ? values : torch::constant_pad_nd(values, {0, missing});
}

torch::Tensor without_padding(const torch::Tensor& attended, const torch::Tensor& values) {
  return attended.size(3) == values.size(3) ? attended
                                            : attended.slice(/*dim=*/3, 0, values.size(3));
}

} // namespace

std::optional<torch::Tensor> fused_pattern(
    const torch::Tensor& queries,
    const torch::Tensor& keys,
    const torch::Tensor& values,
    const AttentionPattern& pattern,
    const std::vector<std::vector<int64_t>>& document_starts) {
  const FusedAttentionForm form{
      pattern.sliding_window, pattern.scale, pattern.sinks, document_starts};
  const bool whole = pattern.chunk == 0 && queries.size(2) == keys.size(2);
  if (!whole || !can_fuse_attention(queries, keys, values, form)) {
    return std::nullopt;
  }
  const auto padded = padded_values(values, queries.size(3));
  return without_padding(fused_attention(queries, keys, padded, form), values);
}

torch::Tensor attend(
    const torch::Tensor& queries,
    const torch::Tensor& keys,
    const torch::Tensor& values,
    const AttentionPattern& pattern) {
  const int64_t head_dim = queries.size(3);
  if (pattern.chunk > 0) {
    return attend_in_chunks(queries, keys, values, pattern);
  }
  if (const auto fused = fused_pattern(queries, keys, values, pattern)) {
    return *fused;
  }
  const double default_scale = 1.0 / std::sqrt(static_cast<double>(head_dim));
  const auto scaled = pattern.scale == 0.0 || pattern.scale == default_scale
                          ? queries
                          : queries * (pattern.scale / default_scale);
  const auto padded = padded_values(values, head_dim);
  const auto result = pattern.sinks.defined()
                          ? attend_with_sinks(scaled, keys, padded, pattern)
                          : attend_plain(scaled, keys, padded, pattern.sliding_window);
  return without_padding(result, values);
}

} // namespace moe
