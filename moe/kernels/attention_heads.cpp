#include "moe/kernels/attention_heads.h"

#include "moe/kernels/cpu_norm.h"
#include "moe/kernels/cpu_tasks.h"
#include "moe/kernels/cpu_tensors.h"
#include "moe/libtorch.h"

namespace moe {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Tokens of a task. It fixes the order in which the norms' gradients are added up.
constexpr int64_t kTokens = 64;

/// Calls body(task, first token, tokens, first position) for runs of tokens of one sequence.
template <typename Body>
void for_token_runs(int64_t batch, int64_t length, const Body& body) {
  const auto per_sequence = (length + kTokens - 1) / kTokens;
  cpu::run_tasks(batch * per_sequence, /*scratch_size=*/0, [&](int64_t task, float*) {
    const auto position = task % per_sequence * kTokens;
    const auto first = task / per_sequence * length + position;
    body(task, first, std::min(kTokens, length - position), position);
  });
}

int64_t num_token_runs(int64_t batch, int64_t length) {
  return batch * ((length + kTokens - 1) / kTokens);
}

/// One node: projected, query_norm, key_norm (empty without norm) -> queries, keys, values.
class HeadsNode : public torch::autograd::Function<HeadsNode> {
 public:
  static variable_list forward(
      AutogradContext* context,
      const torch::Tensor& projected,
      const torch::Tensor& query_norm,
      const torch::Tensor& key_norm,
      const torch::Tensor& cos,
      const torch::Tensor& sin,
      const cpu::HeadShape& shape,
      double epsilon) {
    const auto batch = projected.size(0);
    const auto length = projected.size(1);
    const auto heads = [&](int64_t count) {
      return torch::empty({batch, length, count, shape.head_dim}, projected.options());
    };
    const auto queries = heads(shape.num_heads);
    const auto keys = heads(shape.num_kv_heads);
    const auto values = heads(shape.num_kv_heads);
    const auto num_roots = query_norm.numel() > 0 ? batch * length * shape.normed() : 0;
    const auto roots = torch::empty({num_roots}, projected.options());
    const cpu::HeadTurn turn{
        cpu::data_or_null(query_norm),
        cpu::data_or_null(key_norm),
        static_cast<float>(epsilon),
        2 * cos.size(1),
        cos.const_data_ptr<float>(),
        sin.const_data_ptr<float>()};
    const cpu::HeadRows rows{
        projected.const_data_ptr<float>(),
        queries.mutable_data_ptr<float>(),
        keys.mutable_data_ptr<float>(),
        values.mutable_data_ptr<float>(),
        num_roots > 0 ? roots.mutable_data_ptr<float>() : nullptr};
    for_token_runs(
        batch, length, [&](int64_t, int64_t first, int64_t tokens, int64_t position) {
          cpu::turn_heads(tokens, position, shape, turn, rows_from(rows, first, shape));
        });
    context->save_for_backward({projected, query_norm, key_norm, cos, sin, roots});
    context->saved_data["num_heads"] = shape.num_heads;
    context->saved_data["num_kv_heads"] = shape.num_kv_heads;
    context->saved_data["head_dim"] = shape.head_dim;
    return {queries, keys, values};
  }

  static variable_list backward(AutogradContext* context, const variable_list& outputs) {
    TORCH_CHECK(
        !torch::GradMode::is_enabled(), "attention_heads: there are no second derivatives");
    const auto saved = context->get_saved_variables();
    const auto& projected = saved[0];
    const bool has_norm = saved[1].numel() > 0;
    const cpu::HeadShape shape{
        context->saved_data["num_heads"].toInt(),
        context->saved_data["num_kv_heads"].toInt(),
        context->saved_data["head_dim"].toInt()};
    const auto batch = projected.size(0);
    const auto length = projected.size(1);
    const auto result = torch::empty_like(projected);
    const auto partial = torch::zeros(
        {2, has_norm ? num_token_runs(batch, length) : 0, shape.head_dim}, projected.options());
    const auto gradient = [&](const torch::Tensor& output, int64_t heads) {
      return output.defined()
                 ? output.contiguous()
                 : torch::zeros({batch, length, heads, shape.head_dim}, projected.options());
    };
    const auto queries = gradient(outputs[0], shape.num_heads);
    const auto keys = gradient(outputs[1], shape.num_kv_heads);
    const auto values = gradient(outputs[2], shape.num_kv_heads);
    const cpu::HeadTurn turn{
        cpu::data_or_null(saved[1]),
        cpu::data_or_null(saved[2]),
        /*epsilon=*/0.0F,
        2 * saved[3].size(1),
        saved[3].const_data_ptr<float>(),
        saved[4].const_data_ptr<float>()};
    const cpu::HeadRows rows{
        projected.const_data_ptr<float>(),
        nullptr,
        nullptr,
        nullptr,
        has_norm ? const_cast<float*>(saved[5].const_data_ptr<float>()) : nullptr};
    float* const weights = has_norm ? partial.mutable_data_ptr<float>() : nullptr;
    const auto key_weights = partial.size(1) * shape.head_dim;
    for_token_runs(
        batch, length, [&](int64_t task, int64_t first, int64_t tokens, int64_t position) {
          float* const weight = has_norm ? weights + task * shape.head_dim : nullptr;
          const auto at = first * shape.head_dim;
          cpu::turn_heads_backward(
              tokens,
              position,
              shape,
              turn,
              rows_from(rows, first, shape),
              {queries.const_data_ptr<float>() + at * shape.num_heads,
               keys.const_data_ptr<float>() + at * shape.num_kv_heads,
               values.const_data_ptr<float>() + at * shape.num_kv_heads,
               result.mutable_data_ptr<float>() + first * shape.width(),
               weight,
               has_norm ? weight + key_weights : nullptr});
        });
    const auto norm_gradient = [&](int64_t index) {
      return has_norm ? partial[index].sum(0) : torch::Tensor();
    };
    return {result, norm_gradient(0), norm_gradient(1), {}, {}, {}, {}};
  }

 private:
  /// The rows from token `first` on.
  static cpu::HeadRows rows_from(
      const cpu::HeadRows& rows, int64_t first, const cpu::HeadShape& shape) {
    const auto from = [](float* data, int64_t distance) {
      return data != nullptr ? data + distance : nullptr;
    };
    const auto at = first * shape.head_dim;
    return {
        rows.projected + first * shape.width(),
        from(rows.queries, at * shape.num_heads),
        from(rows.keys, at * shape.num_kv_heads),
        from(rows.values, at * shape.num_kv_heads),
        from(rows.roots, first * shape.normed())};
  }
};

} // namespace

bool can_fuse_attention_heads(const torch::Tensor& projected, const AttentionHeadsForm& form) {
  const auto is_fit = [](const torch::Tensor& tensor) {
    return !tensor.defined() || cpu::is_plain_float(tensor);
  };
  return form.head_dim <= cpu::kMaxHeadDim && cpu::is_float_or_autocast(projected) &&
         is_fit(form.query_norm) && is_fit(form.key_norm) && is_fit(form.cos) &&
         is_fit(form.sin);
}

AttentionHeads attention_heads(const torch::Tensor& projected, const AttentionHeadsForm& form) {
  const cpu::HeadShape shape{form.num_heads, form.num_kv_heads, form.head_dim};
  TORCH_CHECK(
      can_fuse_attention_heads(projected, form),
      "attention_heads: only float32 on the CPU, or what autocast made of it, and heads of at "
      "most ",
      cpu::kMaxHeadDim);
  TORCH_CHECK(
      projected.dim() == 3 && projected.size(2) == shape.width() && form.cos.dim() == 2 &&
          form.cos.size(0) == projected.size(1),
      "attention_heads: projected must be [B, S = ",
      form.cos.size(0),
      ", ",
      shape.width(),
      "], got ",
      projected.sizes());
  TORCH_CHECK(
      2 * form.cos.size(1) <= form.head_dim && form.sin.sizes() == form.cos.sizes(),
      "attention_heads: cos and sin must be [S, at most head_dim / 2 = ",
      form.head_dim / 2,
      "], got ",
      form.cos.sizes(),
      " and ",
      form.sin.sizes());
  const auto wide = projected.to(torch::kFloat32).contiguous();
  const auto outputs = HeadsNode::apply(
      wide,
      cpu::contiguous_or_empty(form.query_norm, wide),
      cpu::contiguous_or_empty(form.key_norm, wide),
      form.cos.contiguous(),
      form.sin.contiguous(),
      shape,
      form.norm_epsilon);
  return {outputs[0], outputs[1], outputs[2]};
}

} // namespace moe
