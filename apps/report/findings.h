#pragma once

#include <string>
#include <vector>

#include "moe/evaluation/routing_statistics.h"
#include "moe/evaluation/specialisation.h"

namespace moe {

/// Something that a reader should know before any figure.
struct Finding {
  enum class Kind { good, note, warning };
  Kind kind = Kind::note;
  std::string text; ///< one or two sentences
};

/// "good", "note" or "warning".
std::string finding_kind_name(Finding::Kind kind);

/// What stands out in how the experts of each layer are used: dead ones, overloaded ones, and
/// whether they serve domains. `num_domains` 1 leaves domains out.
std::vector<Finding> find_remarks(
    const std::vector<LayerRouting>& layers,
    const DomainSpecialisation& domains,
    size_t num_domains);

} // namespace moe
