#include "moe/layers/causal_self_attention.h"

#include <algorithm>

#include "moe/kernels/attention.h"

namespace moe {
namespace {

using torch::indexing::Slice;

torch::Tensor sdpa(
    const torch::Tensor& queries,
    const torch::Tensor& keys,
    const torch::Tensor& values,
    const std::optional<torch::Tensor>& mask,
    bool is_causal) {
  return at::scaled_dot_product_attention(
      queries,
      keys,
      values,
      mask,
      /*dropout_p=*/0.0,
      is_causal,
      /*scale=*/std::nullopt,
      /*enable_gqa=*/queries.size(1) != keys.size(1));
}

/// Which of the keys `first_key` to `end - 1` each of the queries `first_query` to `end - 1`
/// sees.
torch::Tensor window_mask(
    int64_t first_query,
    int64_t first_key,
    int64_t end,
    int64_t sliding_window,
    const torch::Device& device) {
  const auto options = torch::TensorOptions().dtype(torch::kInt64).device(device);
  const auto query = torch::arange(first_query, end, options).unsqueeze(1);
  const auto key = torch::arange(first_key, end, options);
  const auto distance = query - key; // [queries, keys]
  const auto visible = distance >= 0;
  return sliding_window > 0 ? visible.logical_and(distance < sliding_window) : visible;
}

} // namespace

DocumentStarts document_starts(const torch::Tensor& documents) {
  const auto ids = documents.to(torch::kCPU).contiguous(); // [B, S]
  const auto id = ids.accessor<int64_t, 2>();
  DocumentStarts result;
  for (int64_t b = 0; b < ids.size(0); ++b) {
    auto& starts = result.starts.emplace_back();
    for (int64_t s = 0; s < ids.size(1); ++s) {
      if (s == 0 || id[b][s] != id[b][s - 1]) {
        starts.push_back(s);
      }
    }
  }
  return result;
}

torch::Tensor attend_within_documents(
    const torch::Tensor& queries,
    const torch::Tensor& keys,
    const torch::Tensor& values,
    const AttentionPattern& pattern,
    const DocumentStarts& documents) {
  TORCH_CHECK(
      static_cast<int64_t>(documents.starts.size()) == queries.size(0),
      "CausalSelfAttention: documents of ",
      documents.starts.size(),
      " rows for a batch of ",
      queries.size(0));
  if (const auto fused = fused_pattern(queries, keys, values, pattern, documents.starts)) {
    return *fused;
  }
  std::vector<torch::Tensor> rows;
  for (int64_t b = 0; b < queries.size(0); ++b) {
    const auto& starts = documents.starts[b];
    std::vector<torch::Tensor> parts;
    for (size_t i = 0; i < starts.size(); ++i) {
      const int64_t end = i + 1 < starts.size() ? starts[i + 1] : queries.size(2);
      const auto part = [&](const torch::Tensor& tensor) {
        return tensor.slice(/*dim=*/0, b, b + 1).slice(/*dim=*/2, starts[i], end);
      };
      parts.push_back(attend(part(queries), part(keys), part(values), pattern));
    }
    rows.push_back(torch::cat(parts, /*dim=*/2));
  }
  return torch::cat(rows, /*dim=*/0);
}

torch::Tensor grown_queries(
    const torch::Tensor& queries,
    double growth,
    int64_t length,
    int64_t first,
    const DocumentStarts* documents) {
  const auto type = c10::promoteTypes(queries.scalar_type(), torch::kFloat32);
  const int64_t batch = documents == nullptr ? 1 : queries.size(0);
  auto position = torch::arange(first, first + queries.size(1), torch::kInt64)
                      .expand({batch, -1})
                      .clone(); // [1 or B, S]
  for (int64_t b = 0; documents != nullptr && b < batch; ++b) {
    for (const int64_t start : documents->starts[b]) {
      position[b]
          .slice(/*dim=*/0, start)
          .copy_(torch::arange(first, first + queries.size(1) - start, torch::kInt64));
    }
  }
  const auto steps = torch::div(position, length, "floor").to(queries.device(), type);
  const auto factor = torch::log1p(steps) * growth + 1.0;
  return (queries * factor.view({batch, -1, 1, 1})).to(queries.scalar_type());
}

torch::Tensor causal_attention(
    const torch::Tensor& queries,
    const torch::Tensor& keys,
    const torch::Tensor& values,
    int64_t sliding_window) {
  const FusedAttentionForm form{sliding_window, /*scale=*/0.0, /*sinks=*/{}, {}};
  if (can_fuse_attention(queries, keys, values, form)) {
    return fused_attention(queries, keys, values, form);
  }
  const int64_t length = queries.size(2);
  if (sliding_window == 0 || sliding_window >= length) {
    return sdpa(queries, keys, values, std::nullopt, /*is_causal=*/true);
  }
  std::vector<torch::Tensor> chunks;
  for (int64_t begin = 0; begin < length; begin += sliding_window) {
    const int64_t end = std::min(begin + sliding_window, length);
    const int64_t first_key = std::max<int64_t>(0, begin - sliding_window + 1);
    const auto mask = window_mask(begin, first_key, end, sliding_window, queries.device());
    chunks.push_back(sdpa(
        queries.slice(/*dim=*/2, begin, end),
        keys.slice(/*dim=*/2, first_key, end),
        values.slice(/*dim=*/2, first_key, end),
        mask,
        /*is_causal=*/false));
  }
  return torch::cat(chunks, /*dim=*/2);
}

KeyValueCache::KeyValueCache(
    int64_t batch_size,
    int64_t num_kv_heads,
    int64_t capacity,
    int64_t head_dim,
    const torch::TensorOptions& type)
    : keys_(torch::empty({batch_size, num_kv_heads, capacity, head_dim}, type)),
      values_(torch::empty_like(keys_)) {}

int64_t KeyValueCache::bytes() const {
  return static_cast<int64_t>(keys_.nbytes() + values_.nbytes());
}

void KeyValueCache::append(const torch::Tensor& keys, const torch::Tensor& values) {
  const int64_t end = length_ + keys.size(2);
  TORCH_CHECK(
      end <= keys_.size(2),
      "KeyValueCache: ",
      end,
      " tokens do not fit into a cache made for ",
      keys_.size(2));
  const torch::NoGradGuard no_grad;
  keys_.slice(/*dim=*/2, length_, end).copy_(keys);
  values_.slice(/*dim=*/2, length_, end).copy_(values);
  length_ = end;
}

torch::Tensor KeyValueCache::keys() const {
  return keys_.slice(/*dim=*/2, 0, length_);
}

torch::Tensor KeyValueCache::values() const {
  return values_.slice(/*dim=*/2, 0, length_);
}

void* KeyValueCache::key_memory() {
  return keys_.mutable_data_ptr();
}

void* KeyValueCache::value_memory() {
  return values_.mutable_data_ptr();
}

void KeyValueCache::advance(int64_t tokens) {
  TORCH_CHECK(
      length_ + tokens <= keys_.size(2),
      "KeyValueCache: ",
      length_ + tokens,
      " tokens do not fit into a cache made for ",
      keys_.size(2));
  length_ += tokens;
}

CausalSelfAttentionOptions::CausalSelfAttentionOptions(int64_t model_dim, int64_t num_heads)
    : CausalSelfAttentionOptions(model_dim, AttentionForm{.num_heads = num_heads}) {}

CausalSelfAttentionOptions::CausalSelfAttentionOptions(
    int64_t model_dim, const AttentionForm& form)
    : model_dim_(model_dim), form_(form) {}

CausalSelfAttentionImpl::CausalSelfAttentionImpl(const CausalSelfAttentionOptions& options_)
    : options(options_) {
  reset();
}

void CausalSelfAttentionImpl::reset() {
  const auto problem = attention_problem(options.form(), options.model_dim());
  TORCH_CHECK(problem.empty(), "CausalSelfAttention: ", problem);
  TORCH_CHECK(
      !has_latent_attention(options.form()),
      "CausalSelfAttention: key_value_latent_dim (",
      options.form().key_value_latent_dim,
      ") must be 0; LatentAttention has it");
  options.form(resolved(options.form(), options.model_dim()));
  const int64_t head_dim = options.form().head_dim;
  const int64_t query_dim = options.form().num_heads * head_dim;
  const int64_t qkv_dim = query_dim + 2 * options.form().num_kv_heads * head_dim;
  qkv_proj = register_module(
      "qkv_proj",
      torch::nn::Linear(torch::nn::LinearOptions(options.model_dim(), qkv_dim)
                            .bias(options.form().bias || options.form().qkv_bias)));
  o_proj = register_module(
      "o_proj",
      torch::nn::Linear(
          torch::nn::LinearOptions(query_dim, options.model_dim()).bias(options.form().bias)));
  if (options.form().qk_norm && options.form().qk_norm_kind != QKNorm::unweighted) {
    const bool full = options.form().qk_norm_kind == QKNorm::full;
    const int64_t key_dim = options.form().num_kv_heads * head_dim;
    const auto norm = [&](int64_t dim) {
      return RMSNorm(RMSNormOptions(dim).form({.epsilon = options.norm_epsilon()}));
    };
    q_norm = register_module("q_norm", norm(full ? query_dim : head_dim));
    k_norm = register_module("k_norm", norm(full ? key_dim : head_dim));
  }
  if (options.form().sinks) {
    sinks = register_parameter("sinks", torch::empty({options.form().num_heads}));
  }
  if (options.form().gate != AttentionGate::none) {
    const bool per_head = options.form().gate == AttentionGate::softplus_per_head;
    gate_proj = register_module(
        "gate_proj",
        torch::nn::Linear(
            torch::nn::LinearOptions(
                options.model_dim(), per_head ? options.form().num_heads : query_dim)
                .bias(false)));
  }
  reset_parameters();
}

void CausalSelfAttentionImpl::reset_parameters() {
  torch::nn::init::normal_(qkv_proj->weight, /*mean=*/0.0, options.initializer_range());
  torch::nn::init::normal_(o_proj->weight, /*mean=*/0.0, options.output_initializer_range());
  for (const auto& bias : {qkv_proj->bias, o_proj->bias, sinks}) {
    if (bias.defined()) {
      torch::nn::init::zeros_(bias);
    }
  }
  if (!q_norm.is_empty()) {
    q_norm->reset_parameters();
    k_norm->reset_parameters();
  }
  if (!gate_proj.is_empty()) {
    torch::nn::init::normal_(gate_proj->weight, /*mean=*/0.0, options.initializer_range());
  }
}

void CausalSelfAttentionImpl::pretty_print(std::ostream& stream) const {
  stream << "moe::CausalSelfAttention(model_dim=" << options.model_dim()
         << ", num_heads=" << options.form().num_heads
         << ", num_kv_heads=" << options.form().num_kv_heads
         << ", head_dim=" << options.form().head_dim << ", qk_norm=" << std::boolalpha
         << options.form().qk_norm << ", sliding_window=" << options.form().sliding_window
         << ")";
}

torch::Tensor CausalSelfAttentionImpl::forward(
    const torch::Tensor& input, const SequenceContext& context) {
  return mix(input, context);
}

torch::Tensor CausalSelfAttentionImpl::mix(
    const torch::Tensor& input, const SequenceContext& context) {
  TORCH_CHECK(
      input.dim() == 3 && input.size(2) == options.model_dim(),
      "CausalSelfAttention: input must be [B, S, model_dim = ",
      options.model_dim(),
      "], got ",
      input.sizes());
  auto heads = make_heads(qkv_proj(input), context.rotary);
  auto* cache =
      context.state == nullptr ? nullptr : &dynamic_cast<KeyValueCache&>(*context.state);
  if (options.form().query_growth != 0.0) {
    heads.queries = grown_queries(
        heads.queries,
        options.form().query_growth,
        options.form().query_growth_length,
        /*first=*/1 + (cache == nullptr ? 0 : cache->length()),
        context.documents);
  }
  const auto queries = heads.queries.transpose(1, 2); // [B, H, S, head_dim]
  const auto keys = heads.keys.transpose(1, 2);       // [B, Hkv, S, head_dim]
  const auto values = heads.values.transpose(1, 2);   // [B, Hkv, S, head_dim]
  const AttentionPattern pattern{
      options.form().multiplier, options.form().sliding_window, options.form().chunk, sinks};
  torch::Tensor attended; // [B, H, S, head_dim]
  if (cache != nullptr) {
    cache->append(keys, values);
    const auto type = queries.scalar_type();
    attended = attend(queries, cache->keys().to(type), cache->values().to(type), pattern);
  } else if (context.documents != nullptr) {
    attended = attend_within_documents(queries, keys, values, pattern, *context.documents);
  } else {
    attended = attend(queries, keys, values, pattern);
  }
  attended = attended.transpose(1, 2).flatten(2);
  return o_proj(gate_proj.is_empty() ? attended : gated(attended, input));
}

torch::Tensor CausalSelfAttentionImpl::gated(
    const torch::Tensor& attended, const torch::Tensor& input) {
  const auto projected = gate_proj(input);
  if (options.form().gate == AttentionGate::sigmoid) {
    return attended * torch::sigmoid(projected);
  }
  const auto type = c10::promoteTypes(projected.scalar_type(), torch::kFloat32);
  const auto factor = torch::softplus(projected.to(type)).to(attended.scalar_type());
  if (options.form().gate == AttentionGate::softplus) {
    return attended * factor;
  }
  return (attended.unflatten(/*dim=*/2, {options.form().num_heads, options.form().head_dim}) *
          factor.unsqueeze(-1))
      .view_as(attended);
}

AttentionHeads CausalSelfAttentionImpl::make_heads(
    const torch::Tensor& projected, const RotaryTable& rotary) {
  const bool plain_norm =
      !options.form().qk_norm ||
      (options.form().qk_norm_kind == QKNorm::head && !options.form().qk_norm_after_rope);
  if (!plain_norm || options.form().clip_qkv > 0.0) {
    return make_heads_by_operations(projected, rotary);
  }
  // A table without columns turns nothing.
  const auto angles = [&](const torch::Tensor& table) {
    return table.defined()
               ? table
               : torch::empty(
                     {projected.size(1), 0},
                     projected.options().dtype(torch::kFloat32).requires_grad(false));
  };
  const AttentionHeadsForm form{
      options.form().num_heads,
      options.form().num_kv_heads,
      options.form().head_dim,
      q_norm.is_empty() ? torch::Tensor() : q_norm->weight,
      k_norm.is_empty() ? torch::Tensor() : k_norm->weight,
      options.norm_epsilon(),
      angles(rotary.cos),
      angles(rotary.sin)};
  return can_fuse_attention_heads(projected, form)
             ? attention_heads(projected, form)
             : make_heads_by_operations(projected, rotary);
}

torch::Tensor CausalSelfAttentionImpl::normed(const torch::Tensor& heads, RMSNorm& norm) {
  if (!norm.is_empty()) {
    return options.form().qk_norm_kind == QKNorm::full ? norm(heads.flatten(2)).view_as(heads)
                                                       : norm(heads);
  }
  const auto wide = heads.to(c10::promoteTypes(heads.scalar_type(), torch::kFloat32));
  const auto square = wide.square().mean(/*dim=*/-1, /*keepdim=*/true);
  return (wide * torch::rsqrt(square + options.norm_epsilon())).to(heads.scalar_type());
}

AttentionHeads CausalSelfAttentionImpl::make_heads_by_operations(
    const torch::Tensor& projected, const RotaryTable& rotary) {
  const int64_t num_heads = options.form().num_heads + 2 * options.form().num_kv_heads;
  const auto heads = projected.unflatten(/*dim=*/2, {num_heads, options.form().head_dim})
                         .split_with_sizes(
                             {options.form().num_heads,
                              options.form().num_kv_heads,
                              options.form().num_kv_heads},
                             /*dim=*/2);
  const bool norm_after =
      options.form().qk_norm_kind == QKNorm::unweighted || options.form().qk_norm_after_rope;
  const auto clipped = [&](const torch::Tensor& head) {
    return options.form().clip_qkv > 0.0
               ? head.clamp(-options.form().clip_qkv, options.form().clip_qkv)
               : head;
  };
  const auto turned = [&](torch::Tensor head, RMSNorm& norm) {
    if (options.form().qk_norm && !norm_after) {
      head = normed(head, norm);
    }
    head = clipped(head);
    if (rotary.cos.defined()) {
      head = apply_rotary(head, rotary);
    }
    return options.form().qk_norm && norm_after ? normed(head, norm) : head;
  };
  return {turned(heads[0], q_norm), turned(heads[1], k_norm), clipped(heads[2])};
}

std::unique_ptr<MixerState> CausalSelfAttentionImpl::make_state(
    int64_t batch_size, int64_t capacity) const {
  return std::make_unique<KeyValueCache>(
      batch_size,
      options.form().num_kv_heads,
      capacity,
      options.form().head_dim,
      qkv_proj->weight.options().requires_grad(false));
}

} // namespace moe
