#include "moe/evaluation/routing_record.h"

#include <algorithm>

#include "moe/data/permutation.h"
#include "moe/error.h"

namespace moe {
namespace {

int64_t num_pieces(const TokenFile& tokens, int64_t document, int64_t length) {
  const int64_t size = tokens.document_begin(document + 1) - tokens.document_begin(document);
  return (size + length - 1) / length;
}

/// Adds piece number `round` of each document that has so many. False if none has.
bool add_round(
    const TokenFile& tokens,
    int64_t round,
    int64_t length,
    uint64_t key,
    int64_t max_tokens,
    std::vector<TextPiece>& pieces,
    int64_t& chosen) {
  bool any = false;
  const int64_t documents = tokens.num_documents();
  for (int64_t i = 0; i < documents && chosen < max_tokens; ++i) {
    const int64_t document = permute(i, documents, key);
    const int64_t count = num_pieces(tokens, document, length);
    if (round >= count) {
      continue;
    }
    any = true;
    const auto order = mix_bits({key, static_cast<uint64_t>(document)});
    const int64_t begin =
        tokens.document_begin(document) + permute(round, count, order) * length;
    const int64_t end = std::min(
        {begin + length, tokens.document_begin(document + 1), begin + max_tokens - chosen});
    pieces.push_back({.document = document, .begin = begin, .end = end});
    chosen += end - begin;
  }
  return any;
}

} // namespace

std::vector<TextPiece> choose_pieces(
    const TokenFile& tokens, int64_t domain, int64_t max_tokens, int64_t length, int64_t seed) {
  check(length > 0, "pieces of text: a length of ", length, " tokens is not possible");
  const auto key = mix_bits({static_cast<uint64_t>(seed), static_cast<uint64_t>(domain)});
  std::vector<TextPiece> pieces;
  int64_t chosen = 0;
  int64_t round = 0;
  while (chosen < max_tokens &&
         add_round(tokens, round, length, key, max_tokens, pieces, chosen)) {
    ++round;
  }
  for (auto& piece : pieces) {
    piece.domain = domain;
  }
  return pieces;
}

std::vector<int64_t> choices_by_expert(const RecordedLayer& layer) {
  std::vector<int64_t> counts(static_cast<size_t>(layer.num_experts));
  for (const int32_t expert : layer.experts) {
    if (expert >= 0) {
      ++counts[static_cast<size_t>(expert)];
    }
  }
  return counts;
}

std::vector<std::vector<int64_t>> choices_by_domain(
    const RoutingRecord& record, const RecordedLayer& layer) {
  std::vector<std::vector<int64_t>> counts(
      record.domains.size(), std::vector<int64_t>(static_cast<size_t>(layer.num_experts)));
  for (const auto& piece : record.pieces) {
    auto& row = counts[static_cast<size_t>(piece.domain)];
    const int64_t end = piece.end * layer.experts_per_token;
    for (int64_t i = piece.begin * layer.experts_per_token; i < end; ++i) {
      const int32_t expert = layer.experts[static_cast<size_t>(i)];
      if (expert >= 0) {
        ++row[static_cast<size_t>(expert)];
      }
    }
  }
  return counts;
}

} // namespace moe
