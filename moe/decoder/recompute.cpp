#include "moe/decoder/recompute.h"

#include <ATen/Context.h>
#include <ATen/autocast_mode.h>
#include <torch/custom_class.h>

#include <algorithm>

namespace moe {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// The state of the default generator of `device`.
torch::Tensor generator_state(const torch::Device& device) {
  auto generator = at::globalContext().defaultGenerator(device);
  const std::lock_guard<std::mutex> lock(generator.mutex());
  return generator.get_state();
}

void set_generator_state(const torch::Device& device, const torch::Tensor& state) {
  auto generator = at::globalContext().defaultGenerator(device);
  const std::lock_guard<std::mutex> lock(generator.mutex());
  generator.set_state(state);
}

/// What the backward pass computes once more, in which type and with which random numbers.
struct Recomputation : torch::CustomClassHolder {
  Recomputation(const RecomputedFunction& computed, const torch::Device& on)
      : function(computed),
        device(on),
        is_autocast(at::autocast::is_autocast_enabled(on.type())),
        type(at::autocast::get_autocast_dtype(on.type())),
        random_state(generator_state(on)) {}

  /// Autocast would keep weights that it converted without a gradient, so its cache is not
  /// used.
  variable_list operator()(const torch::Tensor& input) const {
    const auto kind = device.type();
    const bool was_autocast = at::autocast::is_autocast_enabled(kind);
    const auto old_type = at::autocast::get_autocast_dtype(kind);
    const bool had_cache = at::autocast::is_autocast_cache_enabled();
    at::autocast::set_autocast_enabled(kind, is_autocast);
    at::autocast::set_autocast_dtype(kind, type);
    at::autocast::set_autocast_cache_enabled(false);
    auto results = function(input);
    at::autocast::set_autocast_cache_enabled(had_cache);
    at::autocast::set_autocast_dtype(kind, old_type);
    at::autocast::set_autocast_enabled(kind, was_autocast);
    return results;
  }

  /// The same with the random numbers of the first time; the generator goes on as it was.
  variable_list again(const torch::Tensor& input) const {
    const auto now = generator_state(device);
    set_generator_state(device, random_state);
    auto results = (*this)(input);
    set_generator_state(device, now);
    return results;
  }

  RecomputedFunction function;
  torch::Device device;
  bool is_autocast;
  torch::ScalarType type;
  torch::Tensor random_state;
};

class RecomputeNode : public torch::autograd::Function<RecomputeNode> {
 public:
  /// `anchor` requires a gradient, so that there is a backward pass even if `input` needs none.
  static variable_list forward(
      AutogradContext* context,
      const torch::Tensor& input,
      const torch::Tensor& /*anchor*/,
      const RecomputedFunction& function) {
    const auto recomputation = c10::make_intrusive<Recomputation>(function, input.device());
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
      auto results = recompute.again(input);
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

/// What must be as it was when a block is computed once more.
struct BlockVersion {
  explicit BlockVersion(const DecoderBlockImpl& block) : is_training(block.is_training()) {
    for (const auto& parameter : block.parameters()) {
      versions.push_back(parameter._version());
    }
  }

  bool operator==(const BlockVersion&) const = default;

  bool is_training;
  std::vector<int64_t> versions;
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
    const SequenceContext& context,
    const torch::Tensor& token_ids) {
  TORCH_CHECK(context.state == nullptr, "forward_recomputed: a state would be filled twice");
  const auto parameters = block->parameters();
  const bool needs_gradient =
      hidden.requires_grad() ||
      std::any_of(parameters.begin(), parameters.end(), [](const torch::Tensor& parameter) {
        return parameter.requires_grad();
      });
  if (!needs_gradient) {
    return block->forward(hidden, context, token_ids);
  }
  std::shared_ptr<DocumentStarts> documents;
  if (context.documents != nullptr) {
    documents = std::make_shared<DocumentStarts>(*context.documents);
  }
  const auto compute =
      [block, rotary = context.rotary, documents, token_ids, before = BlockVersion(*block)](
          const torch::Tensor& input) {
        TORCH_CHECK(
            BlockVersion(*block) == before,
            "forward_recomputed: the weights or the mode (training or evaluation) of a block "
            "changed between its forward and its backward pass");
        const auto output =
            block->forward(input, {rotary, /*state=*/nullptr, documents.get()}, token_ids);
        if (!output.routing) {
          return std::vector<torch::Tensor>{output.hidden};
        }
        const auto& routing = *output.routing;
        std::vector<torch::Tensor> tensors{
            output.hidden, routing.logits, routing.scores, routing.experts, routing.weights};
        // Whoever has `chosen` has `kept`, too.
        for (const auto& rows : {routing.kept, routing.chosen}) {
          if (rows.defined()) {
            tensors.push_back(rows);
          }
        }
        return tensors;
      };
  auto results = recompute_in_backward(compute, hidden);
  if (results.size() == 1) {
    return {results[0], std::nullopt};
  }
  const auto optional = [&](size_t index) {
    return index < results.size() ? results[index] : torch::Tensor();
  };
  return {
      results[0],
      Routing{results[1], results[2], results[3], results[4], optional(5), optional(6)}};
}

} // namespace moe
