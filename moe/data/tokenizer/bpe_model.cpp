#include "moe/data/tokenizer/bpe_model.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <optional>

#include "moe/data/tokenizer/byte_hash.h"
#include "moe/data/tokenizer/byte_level.h"
#include "moe/data/utf8.h"
#include "moe/error.h"

namespace moe {
namespace {

/// What stands for a space where tokens are characters.
constexpr std::string_view kWordSpace = "▁";
constexpr char32_t kWordSpaceCodePoint = 0x2581;

/// Where the word that begins `text`, spaces before it included, ends.
size_t end_of_word(std::string_view text) {
  size_t position = 0;
  while (text.substr(position).starts_with(kWordSpace)) {
    position += kWordSpace.size();
  }
  return std::min(text.find(kWordSpace, position), text.size());
}

/// The byte that the token `<0xNN>` stands for, written with upper-case digits.
std::optional<uint8_t> fallback_byte(std::string_view token) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  if (token.size() != 6 || token.substr(0, 3) != "<0x" || token[5] != '>') {
    return std::nullopt;
  }
  const size_t high = kDigits.find(token[3]);
  const size_t low = kDigits.find(token[4]);
  if (high == std::string_view::npos || low == std::string_view::npos) {
    return std::nullopt;
  }
  return static_cast<uint8_t>(high << 4 | low);
}

} // namespace

BpeModel::BpeModel(const BpeDefinition& definition, bool byte_level)
    : byte_level_(byte_level),
      byte_fallback_(definition.byte_fallback && !byte_level),
      fuse_unknown_(definition.fuse_unknown),
      unknown_(definition.unknown.value_or(-1)) {
  index_symbols(definition);
  index_merges(definition.merges);
  cuts_words_ = never_merges_into_words(definition);
  if (!definition.ignore_merges) {
    return;
  }
  for (const auto& [token, id] : definition.vocabulary) {
    if (!byte_level) {
      whole_pieces_.emplace(token, id);
    } else if (auto bytes = from_byte_level(token)) {
      whole_pieces_.emplace(*std::move(bytes), id);
    }
  }
}

/// Whether a text can be cut before each space that follows a word without changing its ids: no
/// merge crosses such a place, and the space itself has a token, so nothing unknown waits
/// there.
bool BpeModel::never_merges_into_words(const BpeDefinition& definition) const {
  if (byte_level_ || definition.ignore_merges || kWordSpaceCodePoint >= character_ids_.size() ||
      character_ids_[kWordSpaceCodePoint] < 0) {
    return false;
  }
  std::unordered_map<int32_t, std::string_view> tokens;
  tokens.reserve(definition.vocabulary.size());
  for (const auto& [token, id] : definition.vocabulary) {
    tokens.emplace(id, token);
  }
  return std::none_of(
      definition.merges.begin(), definition.merges.end(), [&](const Merge& merge) {
        return tokens.at(merge.right).starts_with(kWordSpace) &&
               !tokens.at(merge.left).ends_with(kWordSpace);
      });
}

void BpeModel::index_symbols(const BpeDefinition& definition) {
  byte_ids_.fill(-1);
  for (const auto& [token, id] : definition.vocabulary) {
    if (byte_fallback_) {
      if (const auto byte = fallback_byte(token)) {
        byte_ids_[*byte] = id;
      }
    }
    const auto step = token.empty() ? Utf8Step() : next_utf8(token);
    if (!step.valid || step.length != token.size()) {
      continue;
    }
    if (byte_level_) {
      if (const auto bytes = from_byte_level(token)) {
        byte_ids_[static_cast<uint8_t>((*bytes)[0])] = id;
      }
      continue;
    }
    if (step.code_point >= character_ids_.size()) {
      character_ids_.resize(step.code_point + 1, -1);
    }
    character_ids_[step.code_point] = id;
  }
}

void BpeModel::index_merges(const std::vector<Merge>& merges) {
  if (merges.empty()) {
    return;
  }
  check(merges.size() < (1u << 30), "model.merges: ", merges.size(), " are too many");
  pairs_.resize(std::bit_ceil(merges.size() * 2 + 1));
  uint32_t rank = 0;
  for (const auto& [left, right, result] : merges) {
    size_t slot = hash_pair(left, right) & (pairs_.size() - 1);
    for (; pairs_[slot].left >= 0; slot = (slot + 1) & (pairs_.size() - 1)) {
      check(
          pairs_[slot].left != left || pairs_[slot].right != right,
          "model.merges: number ",
          rank,
          " repeats number ",
          pairs_[slot].rank,
          "; each pair of tokens has one place");
    }
    pairs_[slot] = {left, right, rank++, result};
  }
}

const BpeModel::PairEntry& BpeModel::find(int32_t left, int32_t right) const {
  size_t slot = hash_pair(left, right) & (pairs_.size() - 1);
  while (pairs_[slot].left >= 0 && (pairs_[slot].left != left || pairs_[slot].right != right)) {
    slot = (slot + 1) & (pairs_.size() - 1);
  }
  return pairs_[slot];
}

void BpeModel::encode(
    std::string_view piece, std::vector<int32_t>& ids, Scratch& scratch) const {
  if (!cuts_words_) {
    encode_part(piece, ids, scratch);
    return;
  }
  while (!piece.empty()) {
    const size_t end = end_of_word(piece);
    encode_part(piece.substr(0, end), ids, scratch);
    piece.remove_prefix(end);
  }
}

void BpeModel::encode_part(
    std::string_view piece, std::vector<int32_t>& ids, Scratch& scratch) const {
  if (pairs_.empty() && whole_pieces_.empty()) {
    split(piece, ids);
    return;
  }
  const bool is_cacheable = piece.size() <= PieceCache::kMaxBytes && !piece.empty();
  PieceCache::Slot* slot = is_cacheable ? &scratch.cache.slot(hash_bytes(piece)) : nullptr;
  if (slot && slot->holds(piece)) {
    ids.insert(ids.end(), slot->ids.begin(), slot->ids.begin() + slot->num_ids);
    return;
  }
  auto& symbols = scratch.ids;
  symbols.clear();
  const auto whole =
      whole_pieces_.empty() ? whole_pieces_.end() : whole_pieces_.find(std::string(piece));
  if (whole != whole_pieces_.end()) {
    symbols.push_back(whole->second);
  } else {
    split(piece, symbols);
    if (symbols.size() <= kShortPiece) {
      merge_by_scan(symbols);
    } else {
      merge_by_heap(symbols, scratch);
    }
  }
  if (slot && symbols.size() <= PieceCache::kMaxIds) {
    slot->store(piece, symbols.data(), symbols.size());
  }
  ids.insert(ids.end(), symbols.begin(), symbols.end());
}

void BpeModel::split(std::string_view piece, std::vector<int32_t>& ids) const {
  if (!byte_level_) {
    split_characters(piece, ids);
    return;
  }
  bool is_after_unknown = false;
  for (const char byte : piece) {
    const int32_t id = byte_ids_[static_cast<uint8_t>(byte)];
    if (id >= 0) {
      ids.push_back(id);
    } else if (unknown_ >= 0 && !(fuse_unknown_ && is_after_unknown)) {
      ids.push_back(unknown_);
    }
    is_after_unknown = id < 0;
  }
}

/// As Hugging Face's library does it: what is unknown waits for the next character that has a
/// token, so byte tokens behind it come first.
void BpeModel::split_characters(std::string_view piece, std::vector<int32_t>& ids) const {
  bool has_unknown = false;
  while (!piece.empty()) {
    const auto step = next_utf8(piece);
    const bool is_known = (step.valid || !byte_fallback_) &&
                          step.code_point < character_ids_.size() &&
                          character_ids_[step.code_point] >= 0;
    if (is_known) {
      add_unknown(ids, has_unknown);
      ids.push_back(character_ids_[step.code_point]);
    } else {
      add_character(piece.substr(0, step.length), ids, has_unknown);
    }
    piece.remove_prefix(step.length);
  }
  add_unknown(ids, has_unknown);
}

/// A character without a token: its bytes if all of them have one, else unknown.
void BpeModel::add_character(
    std::string_view character, std::vector<int32_t>& ids, bool& has_unknown) const {
  const bool has_bytes =
      byte_fallback_ && std::all_of(character.begin(), character.end(), [this](char byte) {
        return byte_ids_[static_cast<uint8_t>(byte)] >= 0;
      });
  if (has_bytes) {
    for (const char byte : character) {
      ids.push_back(byte_ids_[static_cast<uint8_t>(byte)]);
    }
    return;
  }
  if (has_unknown && !fuse_unknown_) {
    add_unknown(ids, has_unknown);
  }
  has_unknown = unknown_ >= 0;
}

void BpeModel::add_unknown(std::vector<int32_t>& ids, bool& has_unknown) const {
  if (has_unknown) {
    ids.push_back(unknown_);
    has_unknown = false;
  }
}

void BpeModel::merge_by_scan(std::vector<int32_t>& ids) const {
  if (pairs_.empty() || ids.size() < 2) {
    return;
  }
  // What merging symbol i with the next one would give.
  std::array<uint32_t, kShortPiece> ranks;
  std::array<int32_t, kShortPiece> results;
  const auto look_up = [&](size_t i) {
    const auto& pair = find(ids[i], ids[i + 1]);
    ranks[i] = pair.rank;
    results[i] = pair.result;
  };
  size_t size = ids.size();
  for (size_t i = 0; i + 1 < size; ++i) {
    look_up(i);
  }
  while (size > 1) {
    const auto best = std::min_element(ranks.begin(), ranks.begin() + size - 1);
    if (*best == kNoRank) {
      break;
    }
    const size_t i = best - ranks.begin();
    ids[i] = results[i];
    std::copy(ids.begin() + i + 2, ids.begin() + size, ids.begin() + i + 1);
    std::copy(ranks.begin() + i + 2, ranks.begin() + size, ranks.begin() + i + 1);
    std::copy(results.begin() + i + 2, results.begin() + size, results.begin() + i + 1);
    --size;
    if (i > 0) {
      look_up(i - 1);
    }
    if (i + 1 < size) {
      look_up(i);
    }
  }
  ids.resize(size);
}

void BpeModel::merge_by_heap(std::vector<int32_t>& ids, Scratch& scratch) const {
  if (pairs_.empty()) {
    return;
  }
  constexpr uint32_t kNone = UINT32_MAX;
  check(ids.size() < kNone, "a piece of ", ids.size(), " symbols is too long to be merged");
  const auto size = static_cast<uint32_t>(ids.size());
  auto& symbols = scratch.symbols;
  symbols.resize(size);
  for (uint32_t i = 0; i < size; ++i) {
    symbols[i] = {ids[i], i == 0 ? kNone : i - 1, i + 1 == size ? kNone : i + 1};
  }
  // A pair that may be merged is its rank, then its position; entries go stale.
  auto& heap = scratch.heap;
  heap.clear();
  const auto candidate = [&](uint32_t i) -> uint64_t {
    const uint32_t next = symbols[i].next;
    const uint32_t rank = next == kNone ? kNoRank : find(symbols[i].id, symbols[next].id).rank;
    return static_cast<uint64_t>(rank) << 32 | i;
  };
  const auto is_merge = [](uint64_t entry) { return entry >> 32 != kNoRank; };
  for (uint32_t i = 0; i < size; ++i) {
    if (const uint64_t entry = candidate(i); is_merge(entry)) {
      heap.push_back(entry);
    }
  }
  std::make_heap(heap.begin(), heap.end(), std::greater<>());
  const auto push = [&](uint32_t i) {
    if (const uint64_t entry = candidate(i); is_merge(entry)) {
      heap.push_back(entry);
      std::push_heap(heap.begin(), heap.end(), std::greater<>());
    }
  };
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    const uint64_t entry = heap.back();
    heap.pop_back();
    const auto i = static_cast<uint32_t>(entry);
    if (symbols[i].id < 0 || candidate(i) != entry) {
      continue;
    }
    const uint32_t next = symbols[i].next;
    symbols[i].id = find(symbols[i].id, symbols[next].id).result;
    symbols[next].id = -1;
    symbols[i].next = symbols[next].next;
    if (symbols[i].next != kNone) {
      symbols[symbols[i].next].previous = i;
      push(i);
    }
    if (symbols[i].previous != kNone) {
      push(symbols[i].previous);
    }
  }
  ids.clear();
  for (uint32_t i = 0; i != kNone; i = symbols[i].next) {
    ids.push_back(symbols[i].id);
  }
}

} // namespace moe
