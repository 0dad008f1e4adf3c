#pragma once

#include "moe/kernels/expert_form.h"
#include "moe/libtorch.h"

namespace moe {

/// Keeps the form for the backward pass of a node.
inline void save_form(torch::autograd::AutogradContext& context, const ExpertForm& form) {
  context.saved_data["activation"] = static_cast<int64_t>(form.activation);
  context.saved_data["gated"] = form.gated;
  context.saved_data["limit"] = form.limit;
  context.saved_data["sigmoid_scale"] = form.sigmoid_scale;
  context.saved_data["offset"] = form.offset;
}

/// What `save_form` kept.
inline ExpertForm saved_form(torch::autograd::AutogradContext& context) {
  return {
      static_cast<Activation>(context.saved_data["activation"].toInt()),
      context.saved_data["gated"].toBool(),
      context.saved_data["limit"].toDouble(),
      context.saved_data["sigmoid_scale"].toDouble(),
      context.saved_data["offset"].toDouble()};
}

} // namespace moe
