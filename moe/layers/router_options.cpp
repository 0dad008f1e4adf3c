#include "moe/layers/router_options.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>
#include <string>

namespace moe {
namespace {

template <class Value>
void check_range(const char* name, Value value, bool possible, const char* allowed) {
  TORCH_CHECK(possible, "TopKRouter: ", name, " (", value, ") must be ", allowed);
}

void check_not_negative(const char* name, double value) {
  check_range(name, value, std::isfinite(value) && value >= 0.0, "a number of at least 0");
}

void check_positive(const char* name, double value) {
  check_range(name, value, std::isfinite(value) && value > 0.0, "a number above 0");
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
  check_positive("cosine_temperature", options.cosine_temperature());
  check_positive("normalize_power", options.normalize_power());
  check_not_negative("normalize_minimum", options.normalize_minimum());
  check_not_negative("logit_cap", options.logit_cap());
  check_not_negative("sparsemixer_jitter", options.sparsemixer_jitter());
  check_not_negative("initializer_range", options.initializer_range());
  const double scaling = options.routed_scaling_factor();
  check_range("routed_scaling_factor", scaling, std::isfinite(scaling), "a number");
  const int64_t seed = options.hash_seed();
  check_range("hash_seed", seed, seed >= 0 && seed < 65536, "in [0, 65535]");
  const double jitter = options.jitter();
  check_range("jitter", jitter, jitter >= 0.0 && jitter < 1.0, "in [0, 1)");
  check_not_negative("capacity_factor", options.capacity_factor());
  const auto conflict = router_conflict(
      {.score = options.score(),
       .selection = options.selection(),
       .weighting = options.weighting(),
       .selection_bias = options.has_selection_bias(),
       .normalize_weights = options.normalize_weights(),
       .capacity_factor = options.capacity_factor(),
       .num_experts = options.num_experts(),
       .experts_per_token = options.experts_per_token(),
       .groups = options.num_groups(),
       .groups_kept = options.groups_kept()});
  TORCH_CHECK(conflict.empty(), "TopKRouter: ", conflict);
}

} // namespace moe
