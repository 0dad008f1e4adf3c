#include "moe/layers/rms_norm.h"

#include <c10/core/impl/LocalDispatchKeySet.h>

#include "moe/kernels/rms_norm.h"

namespace moe {

RMSNormOptions::RMSNormOptions(int64_t dim) : dim_(dim) {}

RMSNormImpl::RMSNormImpl(const RMSNormOptions& options_) : options(options_) {
  reset();
}

void RMSNormImpl::reset() {
  TORCH_CHECK(options.dim() >= 1, "RMSNorm: dim (", options.dim(), ") must be at least 1");
  TORCH_CHECK(
      options.epsilon() > 0.0, "RMSNorm: epsilon (", options.epsilon(), ") must be above 0");
  weight = register_parameter("weight", torch::empty({options.dim()}));
  reset_parameters();
}

void RMSNormImpl::reset_parameters() {
  torch::nn::init::ones_(weight);
}

void RMSNormImpl::pretty_print(std::ostream& stream) const {
  stream << "moe::RMSNorm(dim=" << options.dim() << ", epsilon=" << options.epsilon() << ")";
}

torch::Tensor RMSNormImpl::forward(const torch::Tensor& input) {
  TORCH_CHECK(
      input.dim() >= 1 && input.size(-1) == options.dim(),
      "RMSNorm: the last dimension of the input must be dim = ",
      options.dim(),
      ", got ",
      input.sizes());
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  return rms_norm(input, weight.to(input.scalar_type()), options.epsilon());
}

} // namespace moe
