#pragma once

#include <cstdint>
#include <queue>
#include <vector>

namespace moe {

/// The inner loop of BPE training: pieces as sequences of ids, counts of all pairs of
/// neighbours, and for each pair the places where it may be.
class PairMerger {
 public:
  struct Pair {
    int32_t left = 0;
    int32_t right = 0;
    int64_t count = 0;
    std::vector<uint32_t> places; ///< ascending; some may be gone by now
  };

  /// Adds a piece that occurs `count` times.
  void add_piece(const std::vector<int32_t>& ids, int64_t count);

  /// Counts all pairs. Call it once, after the last piece.
  void count_pairs();

  /// Makes the best pair the token `new_id`, higher than all ids so far, and returns it.
  /// Returns a count of 0 when no pair occurs twice.
  Pair merge_best(int32_t new_id);

 private:
  struct Symbol {
    int32_t id; ///< -1: merged into the symbol before it
    uint32_t previous;
    uint32_t next;
    uint32_t piece; ///< index into counts_
  };
  struct Candidate {
    int64_t count;
    int32_t left;
    int32_t right;
    uint32_t pair; ///< index into pairs_

    bool operator<(const Candidate& other) const;
  };

  uint32_t find(int32_t left, int32_t right) const;
  void insert(uint32_t pair);
  void keep(Pair pair);
  void merge_at(uint32_t place, const Pair& pair, int32_t new_id);
  Pair* fresh_pair(int32_t left, int32_t right, int32_t new_id);
  void change(int32_t left, int32_t right, int32_t new_id, int64_t by, uint32_t place);

  std::vector<Symbol> symbols_;
  std::vector<int64_t> counts_;
  std::vector<Pair> pairs_;     ///< those that occur at least twice
  std::vector<uint32_t> slots_; ///< open addressing: index of a pair + 1
  std::priority_queue<Candidate> candidates_;

  // Pairs that hold the newest token; kept only if they occur twice.
  std::vector<Pair> fresh_;
  std::vector<uint32_t> fresh_by_left_; ///< by the other token: index into fresh_ + 1
  std::vector<uint32_t> fresh_by_right_;
};

} // namespace moe
