#include "moe/conversion/gguf_model.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "moe/checkpoint/generation_config.h"
#include "moe/conversion/gguf_architecture.h"
#include "moe/conversion/gguf_tokenizer.h"
#include "moe/data/tokenizer/tokenizer_config.h"
#include "moe/decoder/decoder_block.h"
#include "moe/error.h"
#include "moe/libtorch.h"

namespace moe {
namespace {

/// Elements that are converted and written at a time, if rows are not longer.
constexpr int64_t kElementsAtOnce = int64_t{1} << 20;

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

/// What is written of a tensor: a part of it, or its elements in another order.
using TensorPart = std::function<torch::Tensor(const torch::Tensor&)>;

torch::Tensor whole_tensor(const torch::Tensor& tensor) {
  return tensor;
}

/// Gives the elements of a tensor, some of its first dimension at a time.
void give_elements(const torch::Tensor& tensor, const GgufSink& sink) {
  const int64_t rows = tensor.size(0);
  const int64_t at_once = std::clamp<int64_t>(
      kElementsAtOnce * rows / std::max<int64_t>(1, tensor.numel()), 1, rows);
  for (int64_t row = 0; row < rows; row += at_once) {
    const auto values =
        tensor.narrow(0, row, std::min(at_once, rows - row)).to(torch::kFloat32).contiguous();
    sink({values.const_data_ptr<float>(), static_cast<size_t>(values.numel())});
  }
}

/// Collects tensors under llama.cpp's names. They are made when they are written, from tensors
/// of the model, of which one is in memory at a time: its parts follow each other.
class TensorList {
 public:
  TensorList(LazyTensors tensors, GgufType type)
      : tensors_(std::make_shared<const LazyTensors>(std::move(tensors))), type_(type) {}

  bool has(const std::string& ours) const {
    return tensors_->contains(ours);
  }

  void add(
      const std::string& name,
      const std::string& ours,
      const TensorPart& part = whole_tensor,
      bool exact = false) {
    const auto shape = part(torch::empty(tensors_->at(ours).shape, torch::kMeta)).sizes().vec();
    add_values(name, shape, exact, [tensors = tensors_, last = last_, ours, part] {
      if (last->first != ours) {
        last->second.reset();
        *last = {ours, tensors->at(ours).make()};
      }
      return part(last->second);
    });
  }

  void add(const std::string& name, const torch::Tensor& tensor) {
    add_values(name, tensor.sizes().vec(), /*exact=*/true, [tensor] { return tensor; });
  }

  std::vector<GgufTensor> take() {
    return std::move(list_);
  }

 private:
  void add_values(
      const std::string& name,
      const std::vector<int64_t>& shape,
      bool exact,
      const std::function<torch::Tensor()>& make) {
    const bool fills_blocks = shape.back() % 32 == 0;
    const bool is_float =
        exact || shape.size() == 1 || (type_ == GgufType::q8_0 && !fills_blocks);
    list_.push_back(
        {name, shape, is_float ? GgufType::f32 : type_, [make](const GgufSink& sink) {
           give_elements(make(), sink);
         }});
  }

  std::shared_ptr<const LazyTensors> tensors_;
  std::shared_ptr<std::pair<std::string, torch::Tensor>> last_ =
      std::make_shared<std::pair<std::string, torch::Tensor>>();
  GgufType type_;
  std::vector<GgufTensor> list_;
};

/// Rows [H · head_dim, ...] with the elements that turn together, of the two halves of the last
/// `turning` ones of a head, side by side.
torch::Tensor pair_up(const torch::Tensor& rows, int64_t heads, int64_t turning) {
  const auto shape = rows.sizes().vec();
  const int64_t head = shape[0] / heads;
  const auto by_head = rows.reshape({heads, head, -1});
  const auto paired = by_head.narrow(1, head - turning, turning)
                          .reshape({heads, 2, turning / 2, -1})
                          .transpose(1, 2)
                          .reshape({heads, turning, -1});
  return torch::cat({by_head.narrow(1, 0, head - turning), paired}, /*dim=*/1).reshape(shape);
}

/// What llama3's scaling divides each frequency by: [head_dim / 2].
torch::Tensor llama3_divisors(const DecoderOptions& options) {
  const auto angles = [](const RotaryTable& table) {
    return torch::atan2(table.sin, table.cos);
  };
  auto form = layer_rotary(options, /*layer=*/0);
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
      int64_t layer)
      : list_(list),
        architecture_(architecture),
        options_(options),
        ours_("layers." + std::to_string(layer) + "."),
        theirs_("blk." + std::to_string(layer) + ".") {}

  void add_attention() {
    if (has_latent_attention(options_)) {
      add_latent_projections();
    } else {
      add_projections(".weight");
      add_projections(".bias");
      add("attn_q_norm.weight", "attention.q_norm.weight");
      add("attn_k_norm.weight", "attention.k_norm.weight");
    }
    add("attn_output.weight", "attention.o_proj.weight");
    add("attn_output.bias", "attention.o_proj.bias");
    add("attn_sinks.weight", "attention.sinks");
    add("attn_gate.weight", "attention.gate_proj.weight");
  }

  void add_norms() {
    add(architecture_.attention_norm + ".weight", "attention_norm.weight");
    add("post_attention_norm.weight", "attention_output_norm.weight");
    add(architecture_.feed_forward_norm + ".weight", "feed_forward_norm.weight");
    add("post_ffw_norm.weight", "feed_forward_output_norm.weight");
  }

  void add_dense() {
    add_network("", "feed_forward.", options_.dense_dim);
  }

  void add_experts() {
    add("ffn_gate_inp.weight", "moe.router.weight", whole_tensor, /*exact=*/true);
    add("ffn_gate_inp.bias", "moe.router.bias");
    add("exp_probs_b.bias", "moe.router.selection_bias");
    add_network("_exps", "moe.", options_.expert_dim);
    if (options_.shared_expert_dim > 0) {
      add_network("_shexp", "moe.shared_expert.", options_.shared_expert_dim);
    }
    add("ffn_gate_inp_shexp.weight",
        "moe.shared_expert_gate.weight",
        [](const torch::Tensor& gate) { return gate.flatten(); });
  }

 private:
  void add(
      const std::string& theirs,
      const std::string& ours,
      const TensorPart& part = whole_tensor,
      bool exact = false) {
    if (list_.has(ours_ + ours)) {
      list_.add(theirs_ + theirs, ours_ + ours, part, exact);
    }
  }

  /// Rows [first, first + count · width) of heads, in llama.cpp's order.
  TensorPart heads_part(int64_t first, int64_t count, int64_t width, int64_t turning) const {
    const bool pairs = architecture_.rotary_pairs && turning > 0;
    return [=](const torch::Tensor& rows) {
      const auto part = rows.narrow(0, first, count * width);
      return pairs ? pair_up(part, count, turning) : part;
    };
  }

  /// Queries, keys and values of one layer lie one after the other in ours.
  void add_projections(const std::string& kind) {
    const std::string ours = "attention.qkv_proj" + kind;
    const int64_t heads = options_.attention.num_heads;
    const int64_t key_heads = resolved_num_kv_heads(options_);
    const int64_t width = resolved_head_dim(options_);
    if (architecture_.fused_projections) {
      add("attn_qkv" + kind, ours);
      return;
    }
    add("attn_q" + kind, ours, heads_part(0, heads, width, width));
    add("attn_k" + kind, ours, heads_part(heads * width, key_heads, width, width));
    add("attn_v" + kind, ours, heads_part((heads + key_heads) * width, key_heads, width, 0));
  }

  /// llama.cpp multiplies queries with what makes keys of the latent vectors, so it has that
  /// turned, and by itself: k_b [H, latent, still], v_b [H, value_head_dim, latent].
  void add_latent_projections() {
    const int64_t heads = options_.attention.num_heads;
    const int64_t width = resolved_head_dim(options_);
    const int64_t turning = resolved_rotary_dim(options_, /*layer=*/0);
    const int64_t latent = options_.attention.key_value_latent_dim;
    const int64_t values = resolved_value_dim(options_);
    add("attn_q_a.weight", "attention.q_down_proj.weight");
    add("attn_q_a_norm.weight", "attention.q_norm.weight");
    add("attn_q_b.weight", "attention.q_up_proj.weight", heads_part(0, heads, width, turning));
    add("attn_q.weight", "attention.q_proj.weight", heads_part(0, heads, width, turning));
    add("attn_kv_a_mqa.weight",
        "attention.kv_down_proj.weight",
        heads_part(0, 1, latent + turning, turning));
    add("attn_kv_a_norm.weight", "attention.kv_norm.weight");
    const int64_t still = width - turning;
    const auto of_heads = [=](const torch::Tensor& rows) {
      return rows.reshape({heads, still + values, latent});
    };
    const std::string up = "attention.kv_up_proj.weight";
    add("attn_k_b.weight", up, [=](const torch::Tensor& rows) {
      return of_heads(rows).narrow(1, 0, still).transpose(1, 2);
    });
    add("attn_v_b.weight", up, [=](const torch::Tensor& rows) {
      return of_heads(rows).narrow(1, still, values);
    });
  }

  /// One feed-forward network, or E stacked ones, of width F.
  void add_network(const std::string& which, const std::string& ours, int64_t width) {
    const auto add_half = [&](const char* name, bool is_bias, int64_t first) {
      const int64_t dim = is_bias ? -1 : -2; // [..., 2F, D], [..., 2F]
      add(
          name + which + (is_bias ? ".bias" : ".weight"),
          ours + (is_bias ? "gate_up_bias" : "gate_up_proj"),
          [=](const torch::Tensor& both) { return both.narrow(dim, first, width); },
          /*exact=*/is_bias);
    };
    add_half("ffn_gate", /*is_bias=*/false, 0);
    add_half("ffn_up", /*is_bias=*/false, width);
    add_half("ffn_gate", /*is_bias=*/true, 0);
    add_half("ffn_up", /*is_bias=*/true, width);
    add("ffn_down" + which + ".weight", ours + "down_proj");
    add("ffn_down" + which + ".bias", ours + "down_bias", whole_tensor, /*exact=*/true);
  }

  TensorList& list_;
  const GgufArchitecture& architecture_;
  const DecoderOptions& options_;
  std::string ours_;
  std::string theirs_;
};

std::vector<GgufTensor> model_tensors(
    const ModelFolder& model, const GgufArchitecture& architecture, GgufType type) {
  const auto& options = model.options();
  TensorList list(model.lazy_tensors(), type);
  list.add("token_embd.weight", "embedding.weight");
  if (options.rotary.scaling == RotaryScaling::llama3) {
    list.add("rope_freqs.weight", llama3_divisors(options));
  }
  for (int64_t layer = 0; layer < options.num_layers; ++layer) {
    LayerExport part(list, architecture, options, layer);
    part.add_norms();
    part.add_attention();
    if (is_moe_layer(options, layer)) {
      part.add_experts();
    } else {
      part.add_dense();
    }
  }
  list.add("output_norm.weight", "final_norm.weight");
  if (!options.tie_embeddings) {
    list.add("output.weight", "lm_head.weight");
  } else if (architecture.head_required) {
    list.add("output.weight", "embedding.weight");
  }
  return list.take();
}

GgufTextEnds text_ends(const ModelFolder& model, std::vector<std::string>& notices) {
  GgufTextEnds ends;
  ends.chat_template = read_tokenizer_config(model.path()).chat_template;
  auto end = read_end_of_text(model.path(), model.extras(), model.options().vocab_size);
  if (!end.ids.empty()) {
    ends.end_of_text = end.ids[0];
  }
  notices = std::move(end.notices);
  return ends;
}

} // namespace

std::vector<std::string> write_gguf_model(
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
  std::vector<std::string> notices;
  if (tokenizer) {
    append(gguf_tokenizer(*tokenizer, options.vocab_size, text_ends(model, notices)));
    if (auto notice = gguf_tokenizer_notice(*tokenizer); !notice.empty()) {
      notices.push_back(std::move(notice));
    }
  } else {
    metadata.emplace_back("tokenizer.ggml.model", std::string("no_vocab"));
  }
  write_gguf(file, metadata, model_tensors(model, architecture, type));
  return notices;
}

} // namespace moe
