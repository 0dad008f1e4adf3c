#include "moe/layers/router_options.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>

namespace moe {

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
  const int64_t seed = options.hash_seed();
  TORCH_CHECK(
      seed >= 0 && seed < 65536, "TopKRouter: hash_seed (", seed, ") must be in [0, 65535]");
  const double range = options.initializer_range();
  TORCH_CHECK(
      std::isfinite(range) && range >= 0.0,
      "TopKRouter: initializer_range (",
      range,
      ") must be a number of at least 0");
  const auto problem =
      router_problem(options.form(), options.num_experts(), options.experts_per_token());
  TORCH_CHECK(problem.empty(), "TopKRouter: ", problem);
}

} // namespace moe
