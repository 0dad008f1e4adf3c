#include "moe/decoder/decoder_options.h"

#include <algorithm>

#include "moe/decoder/decoder_tensors.h"

namespace moe {

int64_t layer_heads(const DecoderOptions& options, int64_t layer) {
  return options.layer_num_heads.empty()
             ? options.attention.num_heads
             : options.layer_num_heads.at(static_cast<size_t>(layer));
}

int64_t resolved_num_kv_heads(const DecoderOptions& options) {
  return resolved(options.attention, options.model_dim).num_kv_heads;
}

int64_t resolved_head_dim(const DecoderOptions& options) {
  return resolved(options.attention, options.model_dim).head_dim;
}

int64_t resolved_value_dim(const DecoderOptions& options) {
  const auto form = resolved(options.attention, options.model_dim);
  return has_latent_attention(form) ? form.value_head_dim : form.head_dim;
}

int64_t resolved_rotary_dim(const DecoderOptions& options, int64_t layer) {
  const int64_t dim = options.layer_rotary_dim.empty()
                          ? options.rotary.dim
                          : options.layer_rotary_dim.at(static_cast<size_t>(layer));
  return dim == 0 ? resolved_head_dim(options) : dim;
}

bool has_latent_attention(const DecoderOptions& options) {
  return has_latent_attention(options.attention);
}

AttentionForm layer_attention(const DecoderOptions& options, int64_t layer) {
  const bool turns = !names_layer(options.no_rope_layers, layer);
  AttentionForm form = resolved(options.attention, options.model_dim);
  form.num_heads = layer_heads(options, layer);
  form.qk_norm = form.qk_norm && (turns || form.qk_norm_kind != QKNorm::unweighted);
  if (names_layer(options.full_attention_layers, layer)) {
    form.sliding_window = form.chunk = 0;
  }
  if (has_latent_attention(form)) {
    return form;
  }
  form.query_growth = turns ? 0.0 : form.query_growth;
  return form;
}

RotaryForm layer_rotary(const DecoderOptions& options, int64_t layer) {
  const bool stretched = !names_layer(options.rope_unscaled_layers, layer);
  RotaryForm form = stretched ? options.rotary : RotaryForm{};
  form.dim = resolved_rotary_dim(options, layer);
  form.theta = options.layer_rope_theta.empty()
                   ? options.rotary.theta
                   : options.layer_rope_theta.at(static_cast<size_t>(layer));
  // What dynamic scaling stretches is the context that the model is made for.
  if (form.original_length == 0 || form.scaling == RotaryScaling::dynamic) {
    form.original_length = options.context_length;
  }
  return form;
}

bool names_layer(const std::vector<int64_t>& layers, int64_t layer) {
  return std::find(layers.begin(), layers.end(), layer) != layers.end();
}

int64_t layer_experts(const DecoderOptions& options, int64_t layer) {
  if (!is_moe_layer(options, layer)) {
    return 0;
  }
  return options.layer_num_experts.empty()
             ? options.num_experts
             : options.layer_num_experts.at(static_cast<size_t>(layer));
}

bool is_moe_layer(const DecoderOptions& options, int64_t layer) {
  return options.num_experts > 0 && !names_layer(options.dense_layers, layer);
}

bool depends_on_future(const DecoderOptions& options) {
  return options.num_experts > 0 && depends_on_future(options.router);
}

std::string generation_obstacle(const DecoderOptions& options) {
  if (options.num_experts == 0 || options.router.selection != RouterSelection::expert_choice) {
    return {};
  }
  return "router_selection: with expert_choice, the experts of a token depend on the tokens "
         "after it, which there are not when text is generated";
}

DecoderOptions plain_form(const DecoderOptions& options) {
  return keep_options(options, [](const OptionRow<DecoderOptions>& row) {
    return row.traits.support == OptionSupport::plain;
  });
}

bool has_plain_form(const DecoderOptions& options) {
  const DecoderOptions given = canonical(options);
  return given == canonical(plain_form(given));
}

ParameterCount count_parameters(const DecoderOptions& options) {
  ParameterCount count;
  for (const NamedShape& tensor : decoder_tensors(options)) {
    if (is_buffer(tensor.name)) {
      continue;
    }
    int64_t elements = 1;
    for (const int64_t size : tensor.shape) {
      elements *= size;
    }
    // What is stacked for all experts: "layers.3.moe.down_proj".
    const size_t moe = tensor.name.find(".moe.");
    const bool stacked =
        moe != std::string::npos && tensor.name.find('.', moe + 5) == std::string::npos;
    count.total += elements;
    count.active += stacked ? elements / tensor.shape[0] * options.experts_per_token : elements;
  }
  return count;
}

} // namespace moe
