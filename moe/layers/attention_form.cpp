#include "moe/layers/attention_form.h"

namespace moe {
namespace {

OptionTable<AttentionForm> attention_rows() {
  using Form = AttentionForm;
  using enum OptionRange;
  using enum OptionSupport;
  return {
      option(
          "num_heads",
          &Form::num_heads,
          "Number of query heads H.",
          {.range = at_least_1, .support = plain}),
      option(
          "num_kv_heads",
          &Form::num_kv_heads,
          "Number of key and value heads, a divisor of num_heads; 0 means num_heads.",
          {.range = at_least_0, .support = plain}),
      option(
          "head_dim",
          &Form::head_dim,
          "Width of a head, even; 0 means model_dim / num_heads.",
          {.range = at_least_0, .support = plain}),
      option(
          "qk_norm",
          &Form::qk_norm,
          "Normalise queries and keys before the rotary positions.",
          {.support = plain}),
      option(
          "qk_norm_kind",
          &Form::qk_norm_kind,
          "head: each head by itself; full: all heads together; unweighted: each head after "
          "the "
          "rotary positions, without weights, in layers that have positions.",
          {.matters = [](const Form& form) { return form.qk_norm; }, .support = packed}),
      option(
          "qk_norm_after_rope",
          &Form::qk_norm_after_rope,
          "Normalise queries and keys after the rotary positions instead of before.",
          {.matters =
               [](const Form& form) {
                 return form.qk_norm && form.qk_norm_kind != QKNorm::unweighted;
               }}),
      option(
          "attention_bias",
          &Form::bias,
          "Add learned biases to the attention projections.",
          {.support = plain}),
      option(
          "qkv_bias",
          &Form::qkv_bias,
          "Add learned biases to queries, keys and values only.",
          {.matters = [](const Form& form) { return !form.bias; }, .support = packed}),
      option(
          "clip_qkv",
          &Form::clip_qkv,
          "Limit queries, keys and values to plus or minus this after their norm and before "
          "the "
          "positions; 0 for no limit.",
          {.range = at_least_0}),
      option(
          "attention_multiplier",
          &Form::multiplier,
          "Multiplies the scores of attention; 0 means 1 / sqrt(head_dim).",
          {.range = finite, .support = packed}),
      option(
          "attention_sinks",
          &Form::sinks,
          "Add a learned score per head to which attention may go without a token.",
          {.support = packed}),
      option(
          "attention_gate",
          &Form::gate,
          "Multiply attention's output by a learned gate of its input: none, sigmoid, softplus "
          "or softplus_per_head."),
      option(
          "sliding_window",
          &Form::sliding_window,
          "Tokens that a token sees, itself included; 0 means all before it.",
          {.range = at_least_0, .support = plain}),
      option(
          "attention_chunk",
          &Form::chunk,
          "Tokens see only the chunk of this many positions in which they are; 0 for no "
          "chunks.",
          {.range = at_least_0}),
      option(
          "query_growth",
          &Form::query_growth,
          "Multiply queries by 1 + this times ln(1 + floor(position / query_growth_length)): "
          "in "
          "all layers of latent attention, else in layers without positions, there counted "
          "from "
          "1.",
          {.range = finite}),
      option(
          "query_growth_length",
          &Form::query_growth_length,
          "Tokens after which queries grow by query_growth.",
          {.range = at_least_1,
           .matters = [](const Form& form) { return form.query_growth != 0.0; }}),
      option(
          "query_latent_dim",
          &Form::query_latent_dim,
          "Width of the latent vector that queries are made from in latent attention; 0 makes "
          "them from the input.",
          {.range = at_least_0}),
      option(
          "key_value_latent_dim",
          &Form::key_value_latent_dim,
          "Width of the latent vector that keys and values are made from; 0 for ordinary "
          "attention.",
          {.range = at_least_0}),
      option(
          "value_head_dim",
          &Form::value_head_dim,
          "Width of a value head in latent attention; 0 means head_dim.",
          {.range = at_least_0}),
  };
}

template <class... Parts>
std::string problem(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  return text.str();
}

std::string heads_problem(const AttentionForm& form, int64_t model_dim) {
  if (form.head_dim == 0 && model_dim % form.num_heads != 0) {
    return problem(
        "num_heads: ",
        form.num_heads,
        " does not divide model_dim (",
        model_dim,
        "); choose a divisor or set head_dim");
  }
  const AttentionForm full = resolved(form, model_dim);
  if (full.num_heads % full.num_kv_heads != 0) {
    return problem(
        "num_kv_heads: ",
        full.num_kv_heads,
        " does not divide num_heads (",
        full.num_heads,
        ")");
  }
  if (full.head_dim % 2 != 0) {
    return problem("head_dim: ", full.head_dim, " is odd; rotary positions need an even width");
  }
  return {};
}

std::string latent_problem(const AttentionForm& form) {
  if (!has_latent_attention(form)) {
    return form.query_latent_dim == 0 && form.value_head_dim == 0
               ? ""
               : "query_latent_dim, value_head_dim: need a key_value_latent_dim";
  }
  if (form.value_head_dim > form.head_dim) {
    return problem(
        "value_head_dim: ",
        form.value_head_dim,
        " is more than head_dim (",
        form.head_dim,
        ")");
  }
  if (form.num_kv_heads != form.num_heads) {
    return "key_value_latent_dim: latent attention has as many key as query heads, and the "
           "same "
           "in every layer";
  }
  const bool plain = !form.qk_norm && !form.qkv_bias && !form.sinks && form.clip_qkv == 0.0 &&
                     form.gate == AttentionGate::none && form.sliding_window == 0 &&
                     form.chunk == 0;
  return plain
             ? ""
             : "key_value_latent_dim: latent attention goes without qk_norm, qkv_bias, "
               "attention_sinks, clip_qkv, attention_gate, sliding_window and attention_chunk";
}

} // namespace

template <>
const OptionTable<AttentionForm>& option_table<AttentionForm>() {
  static const auto table = attention_rows();
  return table;
}

bool has_latent_attention(const AttentionForm& form) {
  return form.key_value_latent_dim > 0;
}

AttentionForm resolved(const AttentionForm& form, int64_t model_dim) {
  AttentionForm full = form;
  full.num_kv_heads = form.num_kv_heads == 0 ? form.num_heads : form.num_kv_heads;
  full.head_dim = form.head_dim == 0 ? model_dim / form.num_heads : form.head_dim;
  if (has_latent_attention(form) && form.value_head_dim == 0) {
    full.value_head_dim = full.head_dim;
  }
  return full;
}

std::string attention_problem(const AttentionForm& form, int64_t model_dim) {
  std::string found = range_problem(form);
  if (found.empty()) {
    found = heads_problem(form, model_dim);
  }
  if (found.empty() && form.sliding_window > 0 && form.chunk > 0) {
    found = "attention_chunk: cannot be had together with sliding_window";
  }
  if (found.empty()) {
    found = latent_problem(resolved(form, model_dim));
  }
  return found;
}

} // namespace moe
