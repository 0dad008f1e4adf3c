#pragma once

#include <cstdint>
#include <vector>

#include "moe/evaluation/routing_record.h"

namespace moe {

/// I(row; column) in bits of a table of non-negative weights, rows of equal length: how much
/// one tells of the other. 0 for independent ones and for an empty table.
///
/// Example: `mutual_information({{1, 0}, {0, 1}}) == 1`.
double mutual_information(const std::vector<std::vector<double>>& table);

/// How much the experts of one layer tell of the domain.
struct Specialisation {
  double bits = 0.0;        ///< mutual information between expert and domain
  double share = 0.0;       ///< of the most possible, log2 of min(domains, experts)
  double chance_mean = 0.0; ///< bits where the domains are dealt out to texts by chance
  double chance_95 = 0.0;   ///< bits that 95 % of these stay below or at
};

/// What is dealt out as a whole when domains are shuffled.
enum class ShuffleUnit {
  document, ///< tokens of one document are no independent evidence
  piece,    ///< where documents are too few: makes chance look smaller than it is
};

/// Specialisation of all layers, and what the chance level rests on.
struct DomainSpecialisation {
  std::vector<Specialisation> layers; ///< as in the record
  ShuffleUnit unit = ShuffleUnit::document;
  int64_t units = 0;
  int64_t shuffles = 0;
};

/// Mutual information between a token's domain and an expert that it chose. Domains count
/// equally, however long their texts are: it is the Jensen-Shannon divergence of their
/// distributions over experts. For the level of chance, the domains' labels are dealt out
/// anew, `shuffles` times, to whole documents; to pieces of them where a domain has fewer than
/// four documents.
DomainSpecialisation specialisation(
    const RoutingRecord& record, int64_t shuffles = 200, int64_t seed = 0);

} // namespace moe
