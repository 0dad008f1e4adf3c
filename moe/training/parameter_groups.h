#pragma once

#include <map>
#include <string>
#include <vector>

namespace moe {

struct TrainerOptions;

/// How a parameter learns in comparison with the others.
struct ParameterGroup {
  double lr_ratio = 1.0;
  /// Factor of the weight decay, which is also multiplied by the learning rate.
  double weight_decay_ratio = 1.0;

  bool operator==(const ParameterGroup&) const = default;
};

/// By the names of parameters; those that are not in it learn as the options say.
using ParameterGroups = std::map<std::string, ParameterGroup>;

/// The parameters of a `DecoderLM`'s routers, by `router_lr_ratio` and
/// `router_weight_decay_ratio`.
ParameterGroups parameter_groups(
    const std::vector<std::string>& names, const TrainerOptions& options);

} // namespace moe
