#include "moe/layers/router_selection.h"

#include <limits>

#include "moe/layers/expert_choice.h"
#include "moe/layers/sinkhorn.h"
#include "moe/layers/token_hash.h"
#include "moe/libtorch.h"

namespace moe {
namespace {

torch::Tensor top_k(const torch::Tensor& preference, int64_t k) {
  return std::get<1>(torch::topk(preference, k, /*dim=*/-1));
}

/// The preferences [T, E] with minus infinity outside of the best groups.
torch::Tensor within_best_groups(
    const torch::Tensor& preference, const TopKRouterOptions& options) {
  const auto by_group = preference.unflatten(
      /*dim=*/1, {options.form().groups, options.num_experts() / options.form().groups});
  const auto rank = options.form().selection == RouterSelection::groups_by_max
                        ? by_group.amax(-1)
                        : std::get<0>(torch::topk(by_group, 2, /*dim=*/-1)).sum(-1);
  const auto outside =
      torch::ones_like(rank, torch::kBool)
          .scatter_(/*dim=*/-1, top_k(rank, options.form().groups_kept), false);
  return by_group.masked_fill(outside.unsqueeze(-1), -std::numeric_limits<double>::infinity())
      .view_as(preference);
}

torch::Tensor by_score(const SelectionInput& input, const TopKRouterOptions& options) {
  // Large logits have equal scores, and the logits themselves are in the same order: those of
  // a softmax within a token, all others among tokens, too.
  const bool in_order = options.form().score != RouterScore::softmax ||
                        options.form().selection != RouterSelection::expert_choice;
  const bool by_groups = options.form().selection == RouterSelection::groups_by_max ||
                         options.form().selection == RouterSelection::groups_by_top2;
  if (input.selection_bias.defined()) {
    return input.scores + input.selection_bias.to(input.scores.scalar_type());
  }
  return in_order && !by_groups ? input.logits : input.scores;
}

torch::Tensor by_token_id(const SelectionInput& input, const TopKRouterOptions& options) {
  TORCH_CHECK(
      input.token_ids.defined(),
      "TopKRouter: the selection hash needs the token ids; give them to forward");
  TORCH_CHECK(
      input.token_ids.numel() == input.logits.size(0) &&
          input.token_ids.scalar_type() == torch::kInt64,
      "TopKRouter: token_ids must be ",
      input.logits.size(0),
      " int64, got ",
      input.token_ids.sizes(),
      " ",
      input.token_ids.scalar_type());
  return token_hash(input.token_ids.reshape({-1}), options.num_experts(), options.hash_seed());
}

} // namespace

Selection select_experts(const SelectionInput& input, const TopKRouterOptions& options) {
  const torch::NoGradGuard no_grad;
  const int64_t k = options.experts_per_token();
  switch (options.form().selection) {
    case RouterSelection::top_k:
      return {top_k(by_score(input, options), k), {}};
    case RouterSelection::groups_by_max:
    case RouterSelection::groups_by_top2:
      return {top_k(within_best_groups(by_score(input, options), options), k), {}};
    case RouterSelection::sinkhorn:
      return {top_k(input.training ? sinkhorn(input.logits) : by_score(input, options), k), {}};
    case RouterSelection::hash:
      return {top_k(by_token_id(input, options), k), {}};
    case RouterSelection::expert_choice: {
      const auto experts =
          torch::arange(options.num_experts(), input.logits.options().dtype(torch::kInt64));
      return {
          experts.repeat({input.logits.size(0), 1}),
          expert_choice(by_score(input, options), k)};
    }
  }
  TORCH_CHECK(false, "TopKRouter: no such selection");
}

} // namespace moe
