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
  const auto problem = range_problem(options.form());
  TORCH_CHECK(problem.empty(), "RMSNorm: ", problem);
  weight = register_parameter("weight", torch::empty({options.dim()}));
  if (options.form().kind == NormKind::layer_bias) {
    bias = register_parameter("bias", torch::empty({options.dim()}));
  }
  reset_parameters();
}

void RMSNormImpl::reset_parameters() {
  torch::nn::init::ones_(weight);
  if (bias.defined()) {
    torch::nn::init::zeros_(bias);
  }
}

void RMSNormImpl::pretty_print(std::ostream& stream) const {
  stream << "moe::RMSNorm(dim=" << options.dim() << ", epsilon=" << options.form().epsilon
         << ")";
}

torch::Tensor RMSNormImpl::forward(const torch::Tensor& input) {
  TORCH_CHECK(
      input.dim() >= 1 && input.size(-1) == options.dim(),
      "RMSNorm: the last dimension of the input must be dim = ",
      options.dim(),
      ", got ",
      input.sizes());
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  if (options.form().kind == NormKind::rms) {
    return rms_norm(input, weight.to(input.scalar_type()), options.form().epsilon);
  }
  auto wide = input.to(c10::promoteTypes(input.scalar_type(), torch::kFloat32));
  wide = wide - wide.mean(/*dim=*/-1, /*keepdim=*/true);
  const auto square = wide.square().mean(/*dim=*/-1, /*keepdim=*/true);
  auto normed = wide * torch::rsqrt(square + options.form().epsilon) * weight;
  if (bias.defined()) {
    normed = normed + bias;
  }
  return normed.to(input.scalar_type());
}

} // namespace moe
