#include "moe/kernels/softmax_top_k.h"

#include <algorithm>

#include "moe/kernels/cpu_softmax.h"
#include "moe/kernels/cpu_tasks.h"
#include "moe/kernels/cpu_tensors.h"
#include "moe/kernels/cpu_top_k.h"
#include "moe/libtorch.h"

namespace moe {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Calls `body(token)` for each of [0, num_tokens), on LibTorch's threads.
template <typename Body>
void for_each_token(int64_t num_tokens, const Body& body) {
  constexpr int64_t kTokens = 128;
  const int64_t num_tasks = (num_tokens + kTokens - 1) / kTokens;
  cpu::run_tasks(num_tasks, /*scratch_size=*/0, [&](int64_t task, float*) {
    const int64_t end = std::min((task + 1) * kTokens, num_tokens);
    for (int64_t token = task * kTokens; token < end; ++token) {
      body(token);
    }
  });
}

/// `weights` [K] of the scores of one token's experts.
void weigh(
    int64_t k, const int64_t* experts, const float* scores, bool normalize, float* weights) {
  float sum = 0.0F;
  for (int64_t i = 0; i < k; ++i) {
    weights[i] = scores[experts[i]];
    sum += weights[i];
  }
  for (int64_t i = 0; i < k && normalize; ++i) {
    weights[i] /= sum;
  }
}

/// Adds to `scores_gradient` [E] what one token's weights pass back.
void weigh_backward(
    int64_t k,
    const int64_t* experts,
    const float* scores,
    const float* weights,
    bool normalize,
    const float* gradient,
    float* scores_gradient) {
  float sum = normalize ? 0.0F : 1.0F;
  float product = 0.0F;
  for (int64_t i = 0; i < k && normalize; ++i) {
    sum += scores[experts[i]];
    product += gradient[i] * weights[i];
  }
  for (int64_t i = 0; i < k; ++i) {
    scores_gradient[experts[i]] += (gradient[i] - product) / sum;
  }
}

/// Turns the gradients of one token's scores [E] into those of its logits.
void softmax_backward(int64_t num_experts, const float* scores, float* gradient) {
  float product = 0.0F;
  for (int64_t e = 0; e < num_experts; ++e) {
    product += scores[e] * gradient[e];
  }
  for (int64_t e = 0; e < num_experts; ++e) {
    gradient[e] = scores[e] * (gradient[e] - product);
  }
}

class SoftmaxTopKNode : public torch::autograd::Function<SoftmaxTopKNode> {
 public:
  static variable_list forward(
      AutogradContext* context, const torch::Tensor& logits, int64_t k, bool normalize) {
    const auto num_tokens = logits.size(0);
    const auto num_experts = logits.size(1);
    const auto scores = torch::empty(logits.sizes(), logits.options());
    const auto experts = torch::empty({num_tokens, k}, torch::kInt64);
    const auto weights = torch::empty({num_tokens, k}, logits.options());
    const float* const logit = cpu::data_or_null(logits);
    float* const score = scores.mutable_data_ptr<float>();
    int64_t* const expert = experts.mutable_data_ptr<int64_t>();
    float* const weight = weights.mutable_data_ptr<float>();
    for_each_token(num_tokens, [&](int64_t token) {
      const float* const from = logit + token * num_experts;
      float* const row = score + token * num_experts;
      int64_t* const best = expert + token * k;
      cpu::top_k(num_experts, from, k, best);
      std::copy_n(from, num_experts, row);
      cpu::softmax_row(num_experts, row);
      weigh(k, best, row, normalize, weight + token * k);
    });
    context->save_for_backward({scores, experts, weights});
    context->saved_data["normalize"] = normalize;
    context->mark_non_differentiable({experts});
    // A loss of the scores is optional: its gradient stays undefined without one.
    context->set_materialize_grads(false);
    return {scores, experts, weights};
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    TORCH_CHECK(
        !torch::GradMode::is_enabled(),
        "softmax_top_k: float32 on the CPU has no second derivatives; use float64");
    const auto saved = context->get_saved_variables();
    const bool normalize = context->saved_data["normalize"].toBool();
    const auto num_tokens = saved[0].size(0);
    const auto num_experts = saved[0].size(1);
    const auto k = saved[1].size(1);
    const auto of_scores = cpu::contiguous_or_empty(gradients[0], saved[0]);  // [T, E]
    const auto of_weights = cpu::contiguous_or_empty(gradients[2], saved[0]); // [T, K]
    auto result = torch::empty_like(saved[0]);
    const float* const score = saved[0].const_data_ptr<float>();
    const int64_t* const expert = saved[1].const_data_ptr<int64_t>();
    const float* const weight = saved[2].const_data_ptr<float>();
    const float* const score_gradient = cpu::data_or_null(of_scores);
    const float* const weight_gradient = cpu::data_or_null(of_weights);
    float* const logit_gradient = result.mutable_data_ptr<float>();
    for_each_token(num_tokens, [&](int64_t token) {
      const float* const row = score + token * num_experts;
      float* const gradient = logit_gradient + token * num_experts;
      if (score_gradient != nullptr) {
        std::copy_n(score_gradient + token * num_experts, num_experts, gradient);
      } else {
        std::fill_n(gradient, num_experts, 0.0F);
      }
      if (weight_gradient != nullptr) {
        const auto first = token * k;
        weigh_backward(
            k,
            expert + first,
            row,
            weight + first,
            normalize,
            weight_gradient + first,
            gradient);
      }
      softmax_backward(num_experts, row, gradient);
    });
    return {result, {}, {}};
  }
};

} // namespace

SoftmaxTopK softmax_top_k(const torch::Tensor& logits, int64_t k, bool normalize_weights) {
  TORCH_CHECK(
      logits.dim() == 2 && k >= 1 && k <= logits.size(1),
      "softmax_top_k: k (",
      k,
      ") must be from 1 to the number of experts of logits [T, E], got ",
      logits.sizes());
  if (cpu::is_plain_float(logits)) {
    const auto outputs = SoftmaxTopKNode::apply(logits.contiguous(), k, normalize_weights);
    return {outputs[0], outputs[1], outputs[2]};
  }
  const auto scores = torch::softmax(logits, /*dim=*/-1);
  const auto experts = std::get<1>(torch::topk(logits.detach(), k, /*dim=*/-1));
  const auto weights = scores.gather(/*dim=*/-1, experts);
  return {
      scores,
      experts,
      normalize_weights ? weights / weights.sum(/*dim=*/-1, /*keepdim=*/true) : weights};
}

} // namespace moe
