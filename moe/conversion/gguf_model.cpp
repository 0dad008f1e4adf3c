#include "moe/conversion/gguf_model.h"

#include <utility>

#include "moe/conversion/gguf_architecture.h"
#include "moe/conversion/gguf_tokenizer.h"
#include "moe/decoder/decoder_block.h"
#include "moe/error.h"
#include "moe/libtorch.h"

namespace moe {
namespace {

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

/// Rows [H · head_dim, ...] with the elements that turn together, of the two halves of a head,
/// side by side.
torch::Tensor pair_up(const torch::Tensor& rows, int64_t heads) {
  const auto shape = rows.sizes().vec();
  return rows.reshape({heads, 2, shape[0] / heads / 2, -1}).transpose(1, 2).reshape(shape);
}

/// What llama3's scaling divides each frequency by: [head_dim / 2].
torch::Tensor llama3_divisors(const DecoderOptions& options) {
  const auto angles = [](const RotaryTable& table) {
    return torch::atan2(table.sin, table.cos);
  };
  auto form = rotary_form(options, /*layer=*/0);
  const auto scaled = angles(rotary_table(/*first=*/1, /*length=*/1, form, torch::kFloat64));
  form.scaling = RotaryScaling::none;
  return (angles(rotary_table(1, 1, form, torch::kFloat64)) / scaled).flatten();
}

/// Puts the tensors of one layer into the list.
class LayerExport {
 public:
  LayerExport(
      TensorList& list,
      const GgufArchitecture& architecture,
      const DecoderOptions& options,
      const StateDict& tensors,
      int64_t layer)
      : list_(list),
        architecture_(architecture),
        options_(options),
        tensors_(tensors),
        ours_("layers." + std::to_string(layer) + "."),
        theirs_("blk." + std::to_string(layer) + ".") {}

  void add_attention() {
    add_projections(".weight");
    add_projections(".bias");
    add("attn_output.weight", "attention.o_proj.weight");
    add("attn_output.bias", "attention.o_proj.bias");
    add("attn_q_norm.weight", "attention.q_norm.weight");
    add("attn_k_norm.weight", "attention.k_norm.weight");
    add("attn_sinks.weight", "attention.sinks");
  }

  void add_norms() {
    for (const char* kind : {"_norm.weight", "_output_norm.weight"}) {
      add(architecture_.attention_norm + ".weight", std::string("attention") + kind);
      add(architecture_.feed_forward_norm + ".weight", std::string("feed_forward") + kind);
    }
  }

  void add_dense() {
    add_network("", "feed_forward.", options_.dense_dim);
  }

  void add_experts() {
    add("ffn_gate_inp.weight", "moe.router.weight", /*exact=*/true);
    add("ffn_gate_inp.bias", "moe.router.bias");
    add("exp_probs_b.bias", "moe.router.selection_bias");
    add_network("_exps", "moe.", options_.expert_dim);
    if (options_.shared_expert_dim > 0) {
      add_network("_shexp", "moe.shared_expert.", options_.shared_expert_dim);
    }
    if (const auto* gate = find("moe.shared_expert_gate.weight")) {
      list_.add(theirs_ + "ffn_gate_inp_shexp.weight", gate->flatten());
    }
  }

 private:
  const torch::Tensor* find(const std::string& name) const {
    return tensors_.find(ours_ + name);
  }

  void add(const std::string& theirs, const std::string& ours, bool exact = false) {
    if (const auto* tensor = find(ours)) {
      list_.add(theirs_ + theirs, *tensor, exact);
    }
  }

  /// Queries, keys and values of one layer lie one after the other in ours.
  void add_projections(const std::string& kind) {
    const auto* qkv = find("attention.qkv_proj" + kind);
    if (qkv == nullptr) {
      return;
    }
    const int64_t heads = options_.num_heads;
    const int64_t key_heads = resolved_num_kv_heads(options_);
    const int64_t width = resolved_head_dim(options_);
    const auto turned = [&](int64_t first, int64_t count) {
      const auto rows = qkv->narrow(0, first * width, count * width);
      return architecture_.rotary_pairs ? pair_up(rows, count) : rows;
    };
    list_.add(theirs_ + "attn_q" + kind, turned(0, heads));
    list_.add(theirs_ + "attn_k" + kind, turned(heads, key_heads));
    list_.add(
        theirs_ + "attn_v" + kind,
        qkv->narrow(0, (heads + key_heads) * width, key_heads * width));
  }

  /// One feed-forward network, or E stacked ones, of width F.
  void add_network(const std::string& which, const std::string& ours, int64_t width) {
    const auto add_half = [&](const char* name,
                              const char* kind,
                              const torch::Tensor* both,
                              int64_t first,
                              int64_t dim) {
      if (both != nullptr) {
        list_.add(theirs_ + name + which + kind, both->narrow(dim, first, width), dim == -1);
      }
    };
    const auto* weight = find(ours + "gate_up_proj"); // [..., 2F, D]
    const auto* bias = find(ours + "gate_up_bias");   // [..., 2F]
    add_half("ffn_gate", ".weight", weight, 0, -2);
    add_half("ffn_gate", ".bias", bias, 0, -1);
    add_half("ffn_up", ".weight", weight, width, -2);
    add_half("ffn_up", ".bias", bias, width, -1);
    add("ffn_down" + which + ".weight", ours + "down_proj");
    add("ffn_down" + which + ".bias", ours + "down_bias", /*exact=*/true);
  }

  TensorList& list_;
  const GgufArchitecture& architecture_;
  const DecoderOptions& options_;
  const StateDict& tensors_;
  std::string ours_;
  std::string theirs_;
};

std::vector<GgufTensor> model_tensors(
    const ModelFolder& model, const GgufArchitecture& architecture, GgufType type) {
  const auto tensors = model.tensors();
  const auto& options = model.options();
  TensorList list(type);
  list.add("token_embd.weight", tensors["embedding.weight"]);
  if (options.rope_scaling == "llama3") {
    list.add("rope_freqs.weight", llama3_divisors(options));
  }
  for (int64_t layer = 0; layer < options.num_layers; ++layer) {
    LayerExport part(list, architecture, options, tensors, layer);
    part.add_norms();
    part.add_attention();
    if (is_moe_layer(options, layer)) {
      part.add_experts();
    } else {
      part.add_dense();
    }
  }
  list.add("output_norm.weight", tensors["final_norm.weight"]);
  if (!options.tie_embeddings) {
    list.add("output.weight", tensors["lm_head.weight"]);
  } else if (architecture.head_required) {
    list.add("output.weight", tensors["embedding.weight"]);
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
  const auto architecture = gguf_architecture(model.family(), options);
  GgufMetadata metadata = {
      {"general.architecture", architecture.name}, {"general.file_type", file_type(type)}};
  const auto append = [&](GgufMetadata entries) {
    for (auto& entry : entries) {
      metadata.push_back(std::move(entry));
    }
  };
  append(gguf_metadata(architecture, options));
  if (tokenizer) {
    append(gguf_tokenizer(*tokenizer, options.vocab_size));
  } else {
    metadata.emplace_back("tokenizer.ggml.model", std::string("no_vocab"));
  }
  write_gguf(file, metadata, model_tensors(model, architecture, type));
}

} // namespace moe
