#include "moe/decoder/recompute.h"

#include <ATen/autocast_mode.h>
#include <torch/custom_class.h>

namespace moe {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// What the backward pass computes once more, and in which type.
struct Recomputation : torch::CustomClassHolder {
  Recomputation(const RecomputedFunction& computed, c10::DeviceType on)
      : function(computed),
        device(on),
        is_autocast(at::autocast::is_autocast_enabled(on)),
        type(at::autocast::get_autocast_dtype(on)) {}

  /// Autocast would keep weights that it converted without a gradient, so its cache is not
  /// used.
  variable_list operator()(const torch::Tensor& input) const {
    const bool was_autocast = at::autocast::is_autocast_enabled(device);
    const auto old_type = at::autocast::get_autocast_dtype(device);
    const bool had_cache = at::autocast::is_autocast_cache_enabled();
    at::autocast::set_autocast_enabled(device, is_autocast);
    at::autocast::set_autocast_dtype(device, type);
    at::autocast::set_autocast_cache_enabled(false);
    auto results = function(input);
    at::autocast::set_autocast_cache_enabled(had_cache);
    at::autocast::set_autocast_dtype(device, old_type);
    at::autocast::set_autocast_enabled(device, was_autocast);
    return results;
  }

  RecomputedFunction function;
  c10::DeviceType device;
  bool is_autocast;
  torch::ScalarType type;
};

class RecomputeNode : public torch::autograd::Function<RecomputeNode> {
 public:
  /// `anchor` requires a gradient, so that there is a backward pass even if `input` needs none.
  static variable_list forward(
      AutogradContext* context,
      const torch::Tensor& input,
      const torch::Tensor& /*anchor*/,
      const RecomputedFunction& function) {
    const auto recomputation =
        c10::make_intrusive<Recomputation>(function, input.device().type());
    auto results = (*recomputation)(input);
    variable_list indices;
    for (const auto& result : results) {
      if (!result.is_floating_point()) {
        indices.push_back(result);
      }
    }
    context->mark_non_differentiable(indices);
    context->set_materialize_grads(false);
    context->save_for_backward({input});
    context->saved_data["recomputation"] = c10::IValue::make_capsule(recomputation);
    return results;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    TORCH_CHECK(
        !torch::GradMode::is_enabled(),
        "recompute_in_backward: there are no second derivatives");
    const auto holder = context->saved_data["recomputation"].toCapsule();
    const auto& recompute = static_cast<const Recomputation&>(*holder);
    const auto input =
        context->get_saved_variables()[0].detach().requires_grad_(context->needs_input_grad(0));
    variable_list outputs;
    variable_list output_gradients;
    {
      const torch::AutoGradMode with_graph(true);
      auto results = recompute(input);
      for (size_t i = 0; i < results.size(); ++i) {
        if (gradients[i].defined() && results[i].requires_grad()) {
          outputs.push_back(std::move(results[i]));
          output_gradients.push_back(gradients[i]);
        }
      }
    }
    if (!outputs.empty()) {
      torch::autograd::backward(outputs, output_gradients);
    }
    return {input.grad(), {}, {}};
  }
};

} // namespace

std::vector<torch::Tensor> recompute_in_backward(
    const RecomputedFunction& function, const torch::Tensor& input) {
  const auto anchor = torch::empty({0}, torch::requires_grad());
  return RecomputeNode::apply(input, anchor, function);
}

DecoderBlockOutput forward_recomputed(
    const std::shared_ptr<DecoderBlockImpl>& block,
    const torch::Tensor& hidden,
    const SequenceContext& context) {
  TORCH_CHECK(context.state == nullptr, "forward_recomputed: a state would be filled twice");
  std::shared_ptr<DocumentStarts> documents;
  if (context.documents != nullptr) {
    documents = std::make_shared<DocumentStarts>(*context.documents);
  }
  const auto compute = [block, rotary = context.rotary, documents](const torch::Tensor& input) {
    const auto output = block->forward(input, {rotary, /*state=*/nullptr, documents.get()});
    if (!output.routing) {
      return std::vector<torch::Tensor>{output.hidden};
    }
    const auto& routing = *output.routing;
    return std::vector<torch::Tensor>{
        output.hidden, routing.logits, routing.scores, routing.experts, routing.weights};
  };
  auto results = recompute_in_backward(compute, hidden);
  if (results.size() == 1) {
    return {results[0], std::nullopt};
  }
  return {results[0], Routing{results[1], results[2], results[3], results[4]}};
}

} // namespace moe
