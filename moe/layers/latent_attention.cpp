#include "moe/layers/latent_attention.h"

#include <cmath>

#include "moe/layers/attention_pattern.h"
#include "moe/layers/causal_self_attention.h"

namespace moe {
namespace {

torch::nn::Linear linear(int64_t from, int64_t to, bool bias) {
  return torch::nn::Linear(torch::nn::LinearOptions(from, to).bias(bias));
}

} // namespace

LatentAttentionOptions::LatentAttentionOptions(int64_t model_dim, int64_t num_heads)
    : LatentAttentionOptions(
          model_dim,
          AttentionForm{
              .num_heads = num_heads,
              .qk_norm = false,
              .key_value_latent_dim = model_dim / 4}) {}

LatentAttentionOptions::LatentAttentionOptions(int64_t model_dim, const AttentionForm& form)
    : model_dim_(model_dim),
      form_(form),
      rotary_dim_(form.num_heads > 0 ? resolved(form, model_dim).head_dim / 2 : 0) {}

LatentCache::LatentCache(
    int64_t batch_size,
    int64_t capacity,
    int64_t latent_dim,
    int64_t rotary_dim,
    const torch::TensorOptions& type)
    : latents_(torch::empty({batch_size, capacity, latent_dim}, type)),
      keys_(torch::empty({batch_size, capacity, rotary_dim}, type)) {}

int64_t LatentCache::bytes() const {
  return static_cast<int64_t>(latents_.nbytes() + keys_.nbytes());
}

void LatentCache::append(const torch::Tensor& latents, const torch::Tensor& keys) {
  const int64_t end = length_ + latents.size(1);
  TORCH_CHECK(
      end <= latents_.size(1),
      "LatentCache: ",
      end,
      " tokens do not fit into a cache made for ",
      latents_.size(1));
  const torch::NoGradGuard no_grad;
  latents_.slice(/*dim=*/1, length_, end).copy_(latents);
  keys_.slice(/*dim=*/1, length_, end).copy_(keys);
  length_ = end;
}

torch::Tensor LatentCache::latents() const {
  return latents_.slice(/*dim=*/1, 0, length_);
}

torch::Tensor LatentCache::keys() const {
  return keys_.slice(/*dim=*/1, 0, length_);
}

LatentAttentionImpl::LatentAttentionImpl(const LatentAttentionOptions& options_)
    : options(options_) {
  reset();
}

void LatentAttentionImpl::reset() {
  const auto problem = attention_problem(options.form(), options.model_dim());
  TORCH_CHECK(problem.empty(), "LatentAttention: ", problem);
  TORCH_CHECK(
      has_latent_attention(options.form()),
      "LatentAttention: key_value_latent_dim (",
      options.form().key_value_latent_dim,
      ") must be at least 1");
  options.form(resolved(options.form(), options.model_dim()));
  const int64_t head = options.form().head_dim;
  const int64_t rotary = options.rotary_dim();
  TORCH_CHECK(
      rotary >= 2 && rotary % 2 == 0 && rotary < head,
      "LatentAttention: rotary_dim (",
      rotary,
      ") must be even and less than head_dim (",
      head,
      ")");
  const int64_t width = options.model_dim();
  const int64_t heads = options.form().num_heads;
  const int64_t latent = options.form().key_value_latent_dim;
  const auto norm = [&](int64_t dim) {
    return RMSNorm(RMSNormOptions(dim).form({.epsilon = options.norm_epsilon()}));
  };
  if (const int64_t query = options.form().query_latent_dim; query > 0) {
    q_down_proj = register_module("q_down_proj", linear(width, query, options.form().bias));
    q_norm = register_module("q_norm", norm(query));
    q_up_proj = register_module("q_up_proj", linear(query, heads * head, /*bias=*/false));
  } else {
    q_proj = register_module("q_proj", linear(width, heads * head, /*bias=*/false));
  }
  kv_down_proj =
      register_module("kv_down_proj", linear(width, latent + rotary, options.form().bias));
  kv_norm = register_module("kv_norm", norm(latent));
  kv_up_proj = register_module(
      "kv_up_proj",
      linear(latent, heads * (head - rotary + options.form().value_head_dim), /*bias=*/false));
  o_proj = register_module(
      "o_proj", linear(heads * options.form().value_head_dim, width, options.form().bias));
  reset_parameters();
}

void LatentAttentionImpl::reset_parameters() {
  for (auto& parameter : named_parameters()) {
    const std::string& name = parameter.key();
    if (name.ends_with("bias")) {
      torch::nn::init::zeros_(parameter.value());
    } else if (name.ends_with("norm.weight")) {
      torch::nn::init::ones_(parameter.value());
    } else {
      torch::nn::init::normal_(
          parameter.value(),
          /*mean=*/0.0,
          name.starts_with("o_proj") ? options.output_initializer_range()
                                     : options.initializer_range());
    }
  }
}

void LatentAttentionImpl::pretty_print(std::ostream& stream) const {
  stream << "moe::LatentAttention(model_dim=" << options.model_dim()
         << ", num_heads=" << options.form().num_heads
         << ", head_dim=" << options.form().head_dim << ", rotary_dim=" << options.rotary_dim()
         << ", value_head_dim=" << options.form().value_head_dim
         << ", query_latent_dim=" << options.form().query_latent_dim
         << ", key_value_latent_dim=" << options.form().key_value_latent_dim << ")";
}

torch::Tensor LatentAttentionImpl::forward(
    const torch::Tensor& input, const SequenceContext& context) {
  return mix(input, context);
}

torch::Tensor LatentAttentionImpl::mix(
    const torch::Tensor& input, const SequenceContext& context) {
  TORCH_CHECK(
      input.dim() == 3 && input.size(2) == options.model_dim(),
      "LatentAttention: input must be [B, S, model_dim = ",
      options.model_dim(),
      "], got ",
      input.sizes());
  const auto queries = make_queries(input, context); // [B, S, H, head_dim]
  const auto parts = kv_down_proj(input).split_with_sizes(
      {options.form().key_value_latent_dim, options.rotary_dim()}, /*dim=*/-1);
  auto latents = kv_norm(parts[0]); // [B, S, latent]
  auto turned_keys = parts[1];      // [B, S, rotary]
  if (context.rotary.cos.defined()) {
    turned_keys = apply_rotary(turned_keys.unsqueeze(2), context.rotary).squeeze(2);
  }
  torch::Tensor attended; // [B, S, H · value_head_dim]
  if (context.state != nullptr) {
    auto& cache = dynamic_cast<LatentCache&>(*context.state);
    cache.append(latents, turned_keys);
    attended =
        input.size(1) == 1
            ? attend_in_latent_space(queries, cache.latents(), cache.keys())
            : attend_to_all(queries, cache.latents(), cache.keys(), /*documents=*/nullptr);
  } else {
    attended = attend_to_all(queries, latents, turned_keys, context.documents);
  }
  return o_proj(attended);
}

torch::Tensor LatentAttentionImpl::make_queries(
    const torch::Tensor& input, const SequenceContext& context) {
  const auto projected =
      q_proj.is_empty() ? q_up_proj(q_norm(q_down_proj(input))) : q_proj(input);
  const int64_t still = options.form().head_dim - options.rotary_dim();
  auto queries =
      projected.unflatten(/*dim=*/2, {options.form().num_heads, options.form().head_dim});
  if (context.rotary.cos.defined()) {
    const auto parts = queries.split_with_sizes({still, options.rotary_dim()}, /*dim=*/-1);
    queries = torch::cat({parts[0], apply_rotary(parts[1], context.rotary)}, /*dim=*/-1);
  }
  if (options.form().query_growth != 0.0) {
    const int64_t first =
        context.state == nullptr ? 0 : dynamic_cast<LatentCache&>(*context.state).length();
    queries = grown_queries(
        queries,
        options.form().query_growth,
        options.form().query_growth_length,
        first,
        context.documents);
  }
  return queries;
}

// Makes the keys and values of all heads.
torch::Tensor LatentAttentionImpl::attend_to_all(
    const torch::Tensor& queries,
    const torch::Tensor& latents,
    const torch::Tensor& turned_keys,
    const DocumentStarts* documents) {
  const int64_t heads = options.form().num_heads;
  const int64_t still = options.form().head_dim - options.rotary_dim();
  const auto parts = kv_up_proj(latents)
                         .unflatten(/*dim=*/2, {heads, still + options.form().value_head_dim})
                         .split_with_sizes({still, options.form().value_head_dim}, /*dim=*/-1);
  const auto keys =
      torch::cat({parts[0], turned_keys.unsqueeze(2).expand({-1, -1, heads, -1})}, /*dim=*/-1)
          .transpose(1, 2); // [B, H, N, head_dim]
  AttentionPattern pattern;
  pattern.scale = options.form().multiplier;
  const auto turned_queries = queries.transpose(1, 2);
  const auto values = parts[1].transpose(1, 2);
  const auto attended =
      documents == nullptr
          ? attend(turned_queries, keys, values, pattern)
          : attend_within_documents(turned_queries, keys, values, pattern, *documents);
  return attended.transpose(1, 2).flatten(2);
}

// For one query: the same without making keys and values. The latent vectors themselves are
// compared with queries of their width, and averaged before values are made of the average.
torch::Tensor LatentAttentionImpl::attend_in_latent_space(
    const torch::Tensor& queries,
    const torch::Tensor& latents,
    const torch::Tensor& turned_keys) {
  const int64_t heads = options.form().num_heads;
  const int64_t still = options.form().head_dim - options.rotary_dim();
  const auto from_latent =
      kv_up_proj->weight.view({heads, -1, options.form().key_value_latent_dim})
          .split_with_sizes({still, options.form().value_head_dim}, /*dim=*/1);
  const auto parts =
      queries.squeeze(1).split_with_sizes({still, options.rotary_dim()}, /*dim=*/-1);
  const auto latent_queries =
      torch::einsum("bhd,hdl->bhl", {parts[0], from_latent[0]}); // [B, H, latent]
  const double scale = options.form().multiplier == 0.0
                           ? 1.0 / std::sqrt(static_cast<double>(options.form().head_dim))
                           : options.form().multiplier;
  const auto scores = (torch::matmul(latent_queries, latents.transpose(1, 2)) +
                       torch::matmul(parts[1], turned_keys.transpose(1, 2))) *
                      scale; // [B, H, N]
  const auto type = c10::promoteTypes(scores.scalar_type(), torch::kFloat32);
  const auto shares = torch::softmax(scores.to(type), /*dim=*/-1).to(latents.scalar_type());
  const auto mean = torch::matmul(shares, latents); // [B, H, latent]
  return torch::einsum("bhl,hvl->bhv", {mean, from_latent[1]})
      .reshape({queries.size(0), 1, -1});
}

std::unique_ptr<MixerState> LatentAttentionImpl::make_state(
    int64_t batch_size, int64_t capacity) const {
  return std::make_unique<LatentCache>(
      batch_size,
      capacity,
      options.form().key_value_latent_dim,
      options.rotary_dim(),
      kv_down_proj->weight.options().requires_grad(false));
}

} // namespace moe
