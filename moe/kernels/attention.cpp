#include "moe/kernels/attention.h"

#include <cmath>

#include "moe/kernels/cpu_attention.h"
#include "moe/kernels/cpu_tensors.h"
#include "moe/libtorch.h"

namespace moe {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

cpu::AttentionShape attention_shape(
    const torch::Tensor& queries, const torch::Tensor& keys, double scale) {
  return {
      queries.size(0),
      queries.size(2),
      queries.size(1),
      keys.size(1),
      queries.size(3),
      static_cast<float>(scale)};
}

/// For each key one past the last query that sees it: [1 or B, S] int32.
torch::Tensor visible_ends(int64_t length, const FusedAttentionForm& form) {
  const int64_t window = form.sliding_window > 0 ? form.sliding_window : length;
  const auto num_rows = std::max<int64_t>(1, std::ssize(form.document_starts));
  auto result = torch::empty({num_rows, length}, torch::kInt32);
  auto* const ends = result.mutable_data_ptr<int32_t>();
  for (int64_t row = 0; row < num_rows; ++row) {
    auto starts =
        form.document_starts.empty() ? std::vector<int64_t>{0} : form.document_starts[row];
    starts.push_back(length);
    for (size_t i = 0; i + 1 < starts.size(); ++i) {
      for (int64_t key = starts[i]; key < starts[i + 1]; ++key) {
        ends[row * length + key] = static_cast<int32_t>(std::min(key + window, starts[i + 1]));
      }
    }
  }
  return result;
}

/// Heads whose vectors are contiguous, wherever they lie.
torch::Tensor with_contiguous_vectors(const torch::Tensor& heads) {
  return heads.stride(3) == 1 ? heads : heads.contiguous();
}

class AttentionNode : public torch::autograd::Function<AttentionNode> {
 public:
  static torch::Tensor forward(
      AutogradContext* context,
      const torch::Tensor& queries,
      const torch::Tensor& keys,
      const torch::Tensor& values,
      const torch::Tensor& sinks,
      const torch::Tensor& ends,
      double scale) {
    const auto shape = attention_shape(queries, keys, scale);
    const auto output =
        torch::empty(
            {shape.batch, shape.length, shape.num_heads, shape.head_dim}, queries.options())
            .transpose(1, 2);
    const auto log_sums =
        torch::empty({shape.batch, shape.num_heads, shape.length}, queries.options());
    cpu::attention_forward(shape, queries, keys, values, ends, sinks, output, log_sums);
    context->save_for_backward({queries, keys, values, sinks, ends, output, log_sums});
    context->saved_data["scale"] = scale;
    return output;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    TORCH_CHECK(
        !torch::GradMode::is_enabled(), "fused_attention: there are no second derivatives");
    const auto saved = context->get_saved_variables();
    auto result = cpu::attention_backward(
        attention_shape(saved[0], saved[1], context->saved_data["scale"].toDouble()),
        with_contiguous_vectors(gradients[0]),
        saved[0],
        saved[1],
        saved[2],
        saved[4],
        saved[3],
        saved[5],
        saved[6]);
    return {result.queries, result.keys, result.values, result.sinks, {}, {}};
  }
};

void check_heads(
    const torch::Tensor& queries,
    const torch::Tensor& keys,
    const torch::Tensor& values,
    const FusedAttentionForm& form) {
  TORCH_CHECK(
      queries.dim() == 4 && keys.dim() == 4 && keys.sizes() == values.sizes() &&
          keys.size(1) > 0 && queries.size(1) % keys.size(1) == 0 &&
          keys.size(0) == queries.size(0) && keys.size(2) == queries.size(2) &&
          keys.size(3) == queries.size(3),
      "fused_attention: queries must be [B, H, S, head_dim], keys and values [B, Hkv, S, "
      "head_dim] with H a multiple of Hkv, got ",
      queries.sizes(),
      ", ",
      keys.sizes(),
      " and ",
      values.sizes());
  TORCH_CHECK(
      form.document_starts.empty() || std::ssize(form.document_starts) == queries.size(0),
      "fused_attention: documents of ",
      form.document_starts.size(),
      " rows for a batch of ",
      queries.size(0));
  TORCH_CHECK(
      !form.sinks.defined() || form.sinks.sizes() == torch::IntArrayRef({queries.size(1)}),
      "fused_attention: sinks must be [H = ",
      queries.size(1),
      "]");
}

} // namespace

bool can_fuse_attention(
    const torch::Tensor& queries,
    const torch::Tensor& keys,
    const torch::Tensor& values,
    const FusedAttentionForm& form) {
  return cpu::is_float_or_autocast(queries) && cpu::is_float_or_autocast(keys) &&
         cpu::is_float_or_autocast(values) &&
         (!form.sinks.defined() || cpu::is_plain_float(form.sinks));
}

torch::Tensor fused_attention(
    const torch::Tensor& queries,
    const torch::Tensor& keys,
    const torch::Tensor& values,
    const FusedAttentionForm& form) {
  TORCH_CHECK(
      can_fuse_attention(queries, keys, values, form),
      "fused_attention: only float32 on the CPU, or what autocast made of it");
  check_heads(queries, keys, values, form);
  const double scale =
      form.scale != 0.0 ? form.scale : 1.0 / std::sqrt(static_cast<double>(queries.size(3)));
  return AttentionNode::apply(
      with_contiguous_vectors(queries.to(torch::kFloat32)),
      with_contiguous_vectors(keys.to(torch::kFloat32)),
      with_contiguous_vectors(values.to(torch::kFloat32)),
      form.sinks.defined() ? form.sinks.contiguous() : torch::empty({0}),
      visible_ends(queries.size(2), form),
      scale);
}

} // namespace moe
