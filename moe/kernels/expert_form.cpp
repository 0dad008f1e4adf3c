#include "moe/kernels/expert_form.h"

#include <array>
#include <utility>

#include "moe/error.h"

namespace moe {
namespace {

constexpr std::array<std::pair<Activation, std::string_view>, 5> kActivationNames{{
    {Activation::silu, "silu"},
    {Activation::gelu, "gelu"},
    {Activation::gelu_tanh, "gelu_tanh"},
    {Activation::relu, "relu"},
    {Activation::relu_squared, "relu_squared"},
}};

} // namespace

std::string_view activation_name(Activation activation) {
  for (const auto& [value, name] : kActivationNames) {
    if (value == activation) {
      return name;
    }
  }
  fail("activation: no name for value ", static_cast<int>(activation));
}

Activation activation_from_name(std::string_view name) {
  for (const auto& [value, known] : kActivationNames) {
    if (known == name) {
      return value;
    }
  }
  fail("activation: '", name, "' is not one of silu, gelu, gelu_tanh, relu, relu_squared");
}

} // namespace moe
