#include "moe/layers/router_options.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <string>

namespace moe {
namespace {

void check_range(const char* name, double value, bool possible, const char* allowed) {
  TORCH_CHECK(possible, "TopKRouter: ", name, " (", value, ") must be ", allowed);
}

} // namespace

TopKRouterOptions::TopKRouterOptions(int64_t model_dim, int64_t num_experts)
    : model_dim_(model_dim),
      num_experts_(num_experts),
      experts_per_token_(std::min<int64_t>(2, num_experts)) {}

void validate(const TopKRouterOptions& options) {
  TORCH_CHECK(
      options.model_dim() >= 1,
      "TopKRouter: model_dim (",
      options.model_dim(),
      ") must be at least 1");
  TORCH_CHECK(
      options.num_experts() >= 1,
      "TopKRouter: num_experts (",
      options.num_experts(),
      ") must be at least 1");
  TORCH_CHECK(
      options.experts_per_token() >= 1 && options.experts_per_token() <= options.num_experts(),
      "TopKRouter: experts_per_token (",
      options.experts_per_token(),
      ") must be in [1, num_experts = ",
      options.num_experts(),
      "]");
  TORCH_CHECK(
      options.cosine_dim() >= 0,
      "TopKRouter: cosine_dim (",
      options.cosine_dim(),
      ") must be at least 0");
  const double temperature = options.cosine_temperature();
  check_range("cosine_temperature", temperature, temperature > 0.0, "above 0");
  const double jitter = options.jitter();
  check_range("jitter", jitter, jitter >= 0.0 && jitter < 1.0, "in [0, 1)");
  const double factor = options.capacity_factor();
  check_range("capacity_factor", factor, factor >= 0.0, "at least 0");
  const auto conflict = router_conflict(
      {.score = options.score(),
       .selection = options.selection(),
       .weighting = options.weighting(),
       .selection_bias = options.has_selection_bias(),
       .normalize_weights = options.normalize_weights(),
       .capacity_factor = factor,
       .num_experts = options.num_experts(),
       .experts_per_token = options.experts_per_token(),
       .groups = options.num_groups(),
       .groups_kept = options.groups_kept()});
  TORCH_CHECK(conflict.empty(), "TopKRouter: ", conflict);
}

} // namespace moe
