#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "moe/data/tokenizer/piece_cache.h"
#include "moe/data/tokenizer/tokenizer_definition.h"

namespace moe {

/// Byte-pair encoding of one piece: it begins as its bytes or characters; while some pair of
/// neighbours has a merge, the earliest merge in the list (leftmost first) is carried out.
/// Immutable; threads share it, each with its own `Scratch`.
class BpeModel {
 public:
  /// What encoding needs besides the model: a cache and working memory.
  struct Scratch {
    struct Symbol {
      int32_t id;
      uint32_t previous;
      uint32_t next;
    };
    PieceCache cache;
    std::vector<int32_t> ids;
    std::vector<Symbol> symbols;
    std::vector<uint64_t> heap;
  };

  /// Throws `Error` when the definition contradicts itself.
  BpeModel(const BpeDefinition& definition, bool byte_level);

  /// Appends the ids of `piece`.
  void encode(std::string_view piece, std::vector<int32_t>& ids, Scratch& scratch) const;

 private:
  struct PairEntry {
    int32_t left = -1;
    int32_t right = -1;
    uint32_t rank = kNoRank;
    int32_t result = -1;
  };
  static constexpr uint32_t kNoRank = UINT32_MAX;
  static constexpr size_t kShortPiece = 48; ///< symbols up to which a scan beats a heap

  bool never_merges_into_words(const BpeDefinition& definition) const;
  void encode_part(std::string_view part, std::vector<int32_t>& ids, Scratch& scratch) const;
  void index_symbols(const BpeDefinition& definition);
  void index_merges(const std::vector<Merge>& merges);
  const PairEntry& find(int32_t left, int32_t right) const;

  void split(std::string_view piece, std::vector<int32_t>& ids) const;
  void split_characters(std::string_view piece, std::vector<int32_t>& ids) const;
  void merge_by_scan(std::vector<int32_t>& ids) const;
  void merge_by_heap(std::vector<int32_t>& ids, Scratch& scratch) const;

  void add_character(
      std::string_view character, std::vector<int32_t>& ids, bool& has_unknown) const;
  void add_unknown(std::vector<int32_t>& ids, bool& has_unknown) const;

  bool byte_level_;
  bool byte_fallback_;
  bool fuse_unknown_;
  bool cuts_words_ = false;            ///< no merge joins a word with the `▁` behind it
  int32_t unknown_;                    ///< -1: what has no token vanishes
  std::array<int32_t, 256> byte_ids_;  ///< of bytes, or of tokens `<0xNN>`; -1 for none
  std::vector<int32_t> character_ids_; ///< otherwise: by code point
  std::vector<PairEntry> pairs_;       ///< open addressing, a power of two
  std::unordered_map<std::string, int32_t> whole_pieces_; ///< for ignore_merges
};

} // namespace moe
