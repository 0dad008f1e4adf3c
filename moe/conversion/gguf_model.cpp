#include "moe/conversion/gguf_model.h"

#include <utility>

#include "moe/conversion/gguf_tokenizer.h"
#include "moe/error.h"
#include "moe/libtorch.h"

namespace moe {
namespace {

using Metadata = std::vector<std::pair<std::string, GgufValue>>;

/// llama.cpp's name of the architecture; what it cannot express is an error.
std::string architecture_of(const ModelFolder& model) {
  const auto& options = model.options();
  const auto& family = model.family();
  check(
      family == "qwen3" || family == "qwen3_moe",
      "gguf: the architecture ",
      family,
      " is not supported, only qwen3 and qwen3_moe");
  const auto require = [](bool is_so, const char* option) {
    check(is_so, "gguf: llama.cpp's form of this architecture has no ", option);
  };
  require(!options.attention_bias, "attention_bias");
  require(options.sliding_window == 0, "sliding_window");
  require(options.qk_norm, "attention without qk_norm");
  if (family == "qwen3") {
    return "qwen3";
  }
  require(options.dense_layers.empty(), "dense_layers");
  require(options.normalize_weights, "routing without normalize_weights");
  require(options.shared_expert_dim == 0, "shared_expert_dim");
  return "qwen3moe";
}

uint32_t file_type(GgufType type) {
  switch (type) {
    case GgufType::f32:
      return 0;
    case GgufType::q8_0:
      return 7;
    case GgufType::bf16:
      break;
  }
  return 32;
}

Metadata model_metadata(
    const std::string& architecture, const DecoderOptions& options, GgufType type) {
  Metadata metadata = {
      {"general.architecture", architecture}, {"general.file_type", file_type(type)}};
  const auto add = [&](const char* key, GgufValue value) {
    metadata.emplace_back(architecture + "." + key, std::move(value));
  };
  const auto count = [](int64_t value) { return static_cast<uint32_t>(value); };
  add("block_count", count(options.num_layers));
  add("context_length", count(options.context_length));
  add("embedding_length", count(options.model_dim));
  const bool has_experts = options.num_experts > 0;
  add("feed_forward_length", count(has_experts ? options.expert_dim : options.dense_dim));
  add("attention.head_count", count(options.num_heads));
  add("attention.head_count_kv", count(resolved_num_kv_heads(options)));
  add("attention.key_length", count(resolved_head_dim(options)));
  add("attention.value_length", count(resolved_head_dim(options)));
  add("attention.layer_norm_rms_epsilon", static_cast<float>(options.norm_epsilon));
  add("rope.freq_base", static_cast<float>(options.rope_theta));
  add("vocab_size", count(options.vocab_size));
  if (has_experts) {
    add("expert_count", count(options.num_experts));
    add("expert_used_count", count(options.experts_per_token));
    add("expert_feed_forward_length", count(options.expert_dim));
  }
  return metadata;
}

/// Collects tensors under llama.cpp's names.
class TensorList {
 public:
  explicit TensorList(GgufType type) : type_(type) {}

  void add(const std::string& name, const torch::Tensor& tensor, bool exact = false) {
    const bool fills_blocks = tensor.size(-1) % 32 == 0;
    const bool is_float =
        exact || tensor.dim() == 1 || (type_ == GgufType::q8_0 && !fills_blocks);
    tensors_.push_back({name, tensor.sizes().vec(), is_float ? GgufType::f32 : type_, [tensor] {
                          const auto values = tensor.to(torch::kFloat32).contiguous();
                          const float* data = values.const_data_ptr<float>();
                          return std::vector<float>(data, data + values.numel());
                        }});
  }

  std::vector<GgufTensor> take() {
    return std::move(tensors_);
  }

 private:
  GgufType type_;
  std::vector<GgufTensor> tensors_;
};

/// `attention.qkv_proj`: queries, keys and values of one layer, one after the other.
void add_attention(
    TensorList& list,
    const StateDict& tensors,
    const DecoderOptions& options,
    const std::string& ours,
    const std::string& theirs) {
  const int64_t queries = options.num_heads * resolved_head_dim(options);
  const int64_t keys = resolved_num_kv_heads(options) * resolved_head_dim(options);
  const auto& qkv = tensors[ours + "attention.qkv_proj.weight"];
  list.add(theirs + "attn_q.weight", qkv.narrow(0, 0, queries));
  list.add(theirs + "attn_k.weight", qkv.narrow(0, queries, keys));
  list.add(theirs + "attn_v.weight", qkv.narrow(0, queries + keys, keys));
  list.add(theirs + "attn_output.weight", tensors[ours + "attention.o_proj.weight"]);
  list.add(theirs + "attn_q_norm.weight", tensors[ours + "attention.q_norm.weight"]);
  list.add(theirs + "attn_k_norm.weight", tensors[ours + "attention.k_norm.weight"]);
}

void add_feed_forward(
    TensorList& list,
    const StateDict& tensors,
    const DecoderOptions& options,
    const std::string& ours,
    const std::string& theirs) {
  if (options.num_experts == 0) {
    const auto& gate_up = tensors[ours + "feed_forward.gate_up_proj"]; // [2F, D]
    list.add(theirs + "ffn_gate.weight", gate_up.narrow(0, 0, options.dense_dim));
    list.add(theirs + "ffn_up.weight", gate_up.narrow(0, options.dense_dim, options.dense_dim));
    list.add(theirs + "ffn_down.weight", tensors[ours + "feed_forward.down_proj"]);
    return;
  }
  const auto& gate_up = tensors[ours + "moe.gate_up_proj"]; // [E, 2F, D]
  list.add(theirs + "ffn_gate_inp.weight", tensors[ours + "moe.router.weight"], /*exact=*/true);
  list.add(theirs + "ffn_gate_exps.weight", gate_up.narrow(1, 0, options.expert_dim));
  list.add(
      theirs + "ffn_up_exps.weight", gate_up.narrow(1, options.expert_dim, options.expert_dim));
  list.add(theirs + "ffn_down_exps.weight", tensors[ours + "moe.down_proj"]);
}

std::vector<GgufTensor> model_tensors(const ModelFolder& model, GgufType type) {
  const auto tensors = model.tensors();
  const auto& options = model.options();
  TensorList list(type);
  list.add("token_embd.weight", tensors["embedding.weight"]);
  for (int64_t layer = 0; layer < options.num_layers; ++layer) {
    const auto ours = "layers." + std::to_string(layer) + ".";
    const auto theirs = "blk." + std::to_string(layer) + ".";
    list.add(theirs + "attn_norm.weight", tensors[ours + "attention_norm.weight"]);
    add_attention(list, tensors, options, ours, theirs);
    list.add(theirs + "ffn_norm.weight", tensors[ours + "feed_forward_norm.weight"]);
    add_feed_forward(list, tensors, options, ours, theirs);
  }
  list.add("output_norm.weight", tensors["final_norm.weight"]);
  if (!options.tie_embeddings) {
    list.add("output.weight", tensors["lm_head.weight"]);
  }
  return list.take();
}

} // namespace

void write_gguf_model(
    const std::filesystem::path& file,
    const ModelFolder& model,
    GgufType type,
    const std::optional<Tokenizer>& tokenizer) {
  const auto& options = model.options();
  auto metadata = model_metadata(architecture_of(model), options, type);
  if (tokenizer) {
    for (auto& entry : gguf_tokenizer(*tokenizer, options.vocab_size)) {
      metadata.push_back(std::move(entry));
    }
  }
  write_gguf(file, metadata, model_tensors(model, type));
}

} // namespace moe
