#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "moe/data/token_file.h"

namespace moe {

/// A part of a document: tokens [begin, end) of its domain's token file, or of a record.
struct TextPiece {
  int64_t domain = 0;
  int64_t document = 0; ///< its number within the domain
  int64_t begin = 0;
  int64_t end = 0;
};

/// What the tokens of a record chose in one layer.
struct RecordedLayer {
  int64_t layer = 0;
  int64_t num_experts = 0;
  int64_t experts_per_token = 0;
  std::vector<int32_t> experts = {}; ///< [T, K], the highest score first; negative: none
  std::vector<float> weights = {};   ///< [T, K]
};

/// Which experts the tokens of some texts chose: what every figure about experts and texts is
/// computed from.
struct RoutingRecord {
  std::vector<std::string> domains;
  std::vector<TextPiece> pieces; ///< `begin` and `end` count the tokens of the record
  std::vector<int32_t> ids;      ///< [T]
  std::vector<RecordedLayer> layers;

  int64_t num_tokens() const {
    return static_cast<int64_t>(ids.size());
  }
};

/// Pieces of at most `length` tokens, `max_tokens` in all, of as many documents as possible: in
/// a pseudo-random order one piece of each document, then a second of each that has one, and
/// so on.
std::vector<TextPiece> choose_pieces(
    const TokenFile& tokens, int64_t domain, int64_t max_tokens, int64_t length, int64_t seed);

/// Tokens that chose each expert of a layer: [E].
std::vector<int64_t> choices_by_expert(const RecordedLayer& layer);

/// Tokens of each domain that chose each expert: [domains, E].
std::vector<std::vector<int64_t>> choices_by_domain(
    const RoutingRecord& record, const RecordedLayer& layer);

} // namespace moe
