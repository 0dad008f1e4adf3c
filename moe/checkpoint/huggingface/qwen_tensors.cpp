#include <array>
#include <utility>

#include "moe/checkpoint/huggingface/family_internal.h"

namespace moe {
namespace {

// Names that differ, but nothing else.
constexpr std::array<std::pair<std::string_view, std::string_view>, 9> kRenamed{{
    {"attention_norm.weight", "input_layernorm.weight"},
    {"feed_forward_norm.weight", "post_attention_layernorm.weight"},
    {"attention.o_proj.weight", "self_attn.o_proj.weight"},
    {"attention.o_proj.bias", "self_attn.o_proj.bias"},
    {"attention.q_norm.weight", "self_attn.q_norm.weight"},
    {"attention.k_norm.weight", "self_attn.k_norm.weight"},
    {"moe.router.weight", "mlp.gate.weight"},
    {"moe.shared_expert_gate.weight", "mlp.shared_expert_gate.weight"},
    {"feed_forward.down_proj", "mlp.down_proj.weight"},
}};

// Rows of `ours` cut into tensors of the given heights.
TensorParts rows(
    const NamedShape& ours, const std::vector<std::pair<std::string, int64_t>>& heights) {
  TensorParts parts;
  for (const auto& [name, height] : heights) {
    StoredTensor part{name, ours.shape};
    part.shape[0] = height;
    parts.push_back(std::move(part));
  }
  return parts;
}

TensorParts query_key_value(
    const DecoderOptions& options,
    const NamedShape& ours,
    const std::string& prefix,
    const std::string& suffix) {
  const int64_t query = options.num_heads * resolved_head_dim(options);
  const int64_t key = resolved_num_kv_heads(options) * resolved_head_dim(options);
  const std::string attention = prefix + "self_attn.";
  return rows(
      ours,
      {{attention + "q_proj." + suffix, query},
       {attention + "k_proj." + suffix, key},
       {attention + "v_proj." + suffix, key}});
}

TensorParts gate_and_up(const NamedShape& ours, const std::string& prefix) {
  const int64_t width = ours.shape[0] / 2;
  return rows(ours, {{prefix + "gate_proj.weight", width}, {prefix + "up_proj.weight", width}});
}

// One tensor per expert and projection, and the stacks that transformers 5 has in memory.
std::vector<TensorParts> expert_stack(
    const NamedShape& ours, const std::string& prefix, bool gate_up) {
  TensorParts single;
  const int64_t rows_per_expert = gate_up ? ours.shape[1] / 2 : ours.shape[1];
  for (int64_t expert = 0; expert < ours.shape[0]; ++expert) {
    const std::string name = prefix + std::to_string(expert) + ".";
    const std::vector<int64_t> shape{rows_per_expert, ours.shape[2]};
    if (gate_up) {
      single.push_back({name + "gate_proj.weight", shape});
      single.push_back({name + "up_proj.weight", shape});
    } else {
      single.push_back({name + "down_proj.weight", shape});
    }
  }
  return {single, {{prefix + (gate_up ? "gate_up_proj" : "down_proj"), ours.shape}}};
}

std::vector<TensorParts> layer_tensor(
    const DecoderOptions& options,
    const NamedShape& ours,
    std::string_view name,
    const std::string& prefix) {
  for (const auto& [from, to] : kRenamed) {
    if (name == from) {
      return {{{prefix + std::string(to), ours.shape}}};
    }
  }
  if (name == "attention.qkv_proj.weight") {
    return {query_key_value(options, ours, prefix, "weight")};
  }
  if (name == "attention.qkv_proj.bias") {
    return {query_key_value(options, ours, prefix, "bias")};
  }
  if (name == "feed_forward.gate_up_proj") {
    return {gate_and_up(ours, prefix + "mlp.")};
  }
  if (name == "moe.gate_up_proj" || name == "moe.down_proj") {
    return expert_stack(ours, prefix + "mlp.experts.", name == "moe.gate_up_proj");
  }
  if (name == "moe.shared_expert.gate_up_proj") {
    return {gate_and_up(ours, prefix + "mlp.shared_expert.")};
  }
  if (name == "moe.shared_expert.down_proj") {
    return {{{prefix + "mlp.shared_expert.down_proj.weight", ours.shape}}};
  }
  fail("this architecture has no tensor like ", ours.name);
}

} // namespace

std::vector<TensorParts> qwen_tensors(const DecoderOptions& options, const NamedShape& ours) {
  if (ours.name == "embedding.weight") {
    return {{{"model.embed_tokens.weight", ours.shape}}};
  }
  if (ours.name == "final_norm.weight") {
    return {{{"model.norm.weight", ours.shape}}};
  }
  if (ours.name == "lm_head.weight") {
    return {{{"lm_head.weight", ours.shape}}};
  }
  constexpr std::string_view kLayers = "layers.";
  const std::string_view rest = std::string_view(ours.name).substr(kLayers.size());
  const size_t dot = rest.find('.');
  const std::string prefix = "model.layers." + std::string(rest.substr(0, dot)) + ".";
  return layer_tensor(options, ours, rest.substr(dot + 1), prefix);
}

} // namespace moe
