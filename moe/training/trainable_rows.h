#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "moe/checkpoint/new_experts.h"

namespace moe {

/// Rows of a parameter along its first dimension, `begin` to `end` - 1.
struct RowRange {
  int64_t begin = 0;
  int64_t end = 0;

  bool operator==(const RowRange&) const = default;
};

/// The rows that learn, of parameters of which not all do: ascending and apart, none for a
/// parameter that is frozen as a whole. The other rows get no update and no decay, their
/// moments stay, and their gradients do not count in the norm.
using TrainableRows = std::map<std::string, std::vector<RowRange>>;

/// A parameter and its size along the first dimension.
struct ParameterRows {
  std::string name;
  int64_t rows = 0;
};

/// Whether a parameter of a `DecoderLM` belongs to a part, named as below.
bool is_of_part(std::string_view name, std::string_view part);

/// Throws `Error` naming `option` for a part in `parts` that is not named as below.
void check_parts(const std::vector<std::string>& parts, const std::string& option);

/// What remains to be trained of a `DecoderLM`'s parameters: the parts in `only` (all if that
/// is empty) without those in `freeze`. A part is `embedding`, `head`, `attention`, `norms`,
/// `router`, `experts`, `shared_expert` or `feed_forward` (of layers without experts);
/// `experts=3,5` and `router=3,5` mean these experts of every layer, `new-experts` those in
/// `new_experts` with their rows of the routers.
///
/// Throws `Error` for a part that is not known, that the model does not have, or if nothing
/// remains.
TrainableRows trainable_rows(
    const std::vector<ParameterRows>& parameters,
    const std::vector<std::string>& freeze,
    const std::vector<std::string>& only,
    const NewExperts& new_experts = {});

} // namespace moe
