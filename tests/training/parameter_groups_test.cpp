#include "moe/training/parameter_groups.h"

#include "moe/training/trainer_options.h"
#include "tests/support/catch.h"

using namespace moe;

TEST_CASE("parameter_groups: routers learn by their own ratios", "[training]") {
  const std::vector<std::string> names = {
      "embedding.weight",
      "layers.0.moe.router.weight",
      "layers.0.moe.router.bias",
      "layers.0.moe.gate_up_proj"};
  TrainerOptions options;
  CHECK(parameter_groups(names, options).empty());
  options.router_lr_ratio = 0.5;
  options.router_weight_decay_ratio = 0.0;
  const ParameterGroup router = {0.5, 0.0};
  CHECK(
      parameter_groups(names, options) ==
      ParameterGroups{
          {"layers.0.moe.router.bias", router}, {"layers.0.moe.router.weight", router}});
}
