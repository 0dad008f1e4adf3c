#include "moe/training/parameter_groups.h"

#include "moe/training/trainable_rows.h"
#include "moe/training/trainer_options.h"

namespace moe {

ParameterGroups parameter_groups(
    const std::vector<std::string>& names, const TrainerOptions& options) {
  const ParameterGroup router = {options.router_lr_ratio, options.router_weight_decay_ratio};
  ParameterGroups groups;
  if (router == ParameterGroup{}) {
    return groups;
  }
  for (const auto& name : names) {
    if (is_of_part(name, "router")) {
      groups[name] = router;
    }
  }
  return groups;
}

} // namespace moe
