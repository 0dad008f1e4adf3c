#include "moe/data/tokenizer/pair_merger.h"

#include <algorithm>
#include <tuple>
#include <unordered_map>

#include "moe/data/tokenizer/byte_hash.h"
#include "moe/error.h"

namespace moe {
namespace {

constexpr uint32_t kNone = UINT32_MAX;

} // namespace

bool PairMerger::Candidate::operator<(const Candidate& other) const {
  if (count != other.count) {
    return count < other.count;
  }
  return std::tie(left, right) > std::tie(other.left, other.right);
}

void PairMerger::add_piece(const std::vector<int32_t>& ids, int64_t count) {
  check(
      symbols_.size() + ids.size() < kNone,
      "training text: its distinct words have more than 2^32 bytes; use a part of it");
  const auto begin = static_cast<uint32_t>(symbols_.size());
  const auto end = static_cast<uint32_t>(begin + ids.size());
  const auto piece = static_cast<uint32_t>(counts_.size());
  counts_.push_back(count);
  for (uint32_t i = begin; i < end; ++i) {
    symbols_.push_back(
        {ids[i - begin], i == begin ? kNone : i - 1, i + 1 == end ? kNone : i + 1, piece});
  }
}

void PairMerger::count_pairs() {
  std::unordered_map<uint64_t, Pair> pairs;
  for (uint32_t place = 0; place < symbols_.size(); ++place) {
    const auto& symbol = symbols_[place];
    if (symbol.next == kNone) {
      continue;
    }
    const int32_t right = symbols_[symbol.next].id;
    auto& pair = pairs[static_cast<uint64_t>(symbol.id) << 32 | static_cast<uint32_t>(right)];
    pair.left = symbol.id;
    pair.right = right;
    pair.count += counts_[symbol.piece];
    pair.places.push_back(place);
  }
  slots_.assign(1024, 0);
  for (auto& entry : pairs) {
    keep(std::move(entry.second));
  }
}

uint32_t PairMerger::find(int32_t left, int32_t right) const {
  for (size_t slot = hash_pair(left, right) & (slots_.size() - 1); slots_[slot] > 0;
       slot = (slot + 1) & (slots_.size() - 1)) {
    const auto& pair = pairs_[slots_[slot] - 1];
    if (pair.left == left && pair.right == right) {
      return slots_[slot] - 1;
    }
  }
  return kNone;
}

void PairMerger::insert(uint32_t pair) {
  size_t slot = hash_pair(pairs_[pair].left, pairs_[pair].right) & (slots_.size() - 1);
  while (slots_[slot] > 0) {
    slot = (slot + 1) & (slots_.size() - 1);
  }
  slots_[slot] = pair + 1;
}

/// A pair's count never rises after the round that made the younger of its tokens, so one that
/// occurs once then can be forgotten.
void PairMerger::keep(Pair pair) {
  if (pair.count < 2) {
    return;
  }
  const auto index = static_cast<uint32_t>(pairs_.size());
  candidates_.push({pair.count, pair.left, pair.right, index});
  pairs_.push_back(std::move(pair));
  if (pairs_.size() * 2 <= slots_.size()) {
    insert(index);
    return;
  }
  slots_.assign(slots_.size() * 4, 0);
  for (uint32_t i = 0; i <= index; ++i) {
    insert(i);
  }
}

PairMerger::Pair PairMerger::merge_best(int32_t new_id) {
  while (!candidates_.empty()) {
    auto best = candidates_.top();
    candidates_.pop();
    auto& entry = pairs_[best.pair];
    if (entry.count != best.count) {
      best.count = entry.count;
      if (best.count >= 2) {
        candidates_.push(best);
      }
      continue;
    }
    const Pair pair = std::move(entry);
    entry = {pair.left, pair.right, 0, {}};
    fresh_.clear();
    fresh_by_left_.resize(new_id + 1, 0);
    fresh_by_right_.resize(new_id + 1, 0);
    for (const uint32_t place : pair.places) {
      merge_at(place, pair, new_id);
    }
    for (auto& fresh : fresh_) {
      fresh_by_left_[fresh.left] = 0;
      fresh_by_right_[fresh.right] = 0;
      keep(std::move(fresh));
    }
    return pair;
  }
  return {};
}

void PairMerger::merge_at(uint32_t place, const Pair& pair, int32_t new_id) {
  auto& symbol = symbols_[place];
  if (symbol.id != pair.left || symbol.next == kNone ||
      symbols_[symbol.next].id != pair.right) {
    return;
  }
  const int64_t count = counts_[symbol.piece];
  auto& absorbed = symbols_[symbol.next];
  symbol.id = new_id;
  symbol.next = absorbed.next;
  absorbed.id = -1;
  if (symbol.previous != kNone) {
    const int32_t before = symbols_[symbol.previous].id;
    change(before, pair.left, new_id, -count, 0);
    change(before, new_id, new_id, count, symbol.previous);
  }
  if (symbol.next != kNone) {
    auto& after = symbols_[symbol.next];
    after.previous = place;
    change(pair.right, after.id, new_id, -count, 0);
    change(new_id, after.id, new_id, count, place);
  }
}

/// The entry of a pair with the newest token, created where there is none; null for others.
PairMerger::Pair* PairMerger::fresh_pair(int32_t left, int32_t right, int32_t new_id) {
  if (left != new_id && right != new_id) {
    return nullptr;
  }
  auto& index = right == new_id ? fresh_by_left_[left] : fresh_by_right_[right];
  if (index == 0) {
    fresh_.push_back({left, right, 0, {}});
    index = static_cast<uint32_t>(fresh_.size());
  }
  return &fresh_[index - 1];
}

void PairMerger::change(
    int32_t left, int32_t right, int32_t new_id, int64_t by, uint32_t place) {
  if (Pair* fresh = fresh_pair(left, right, new_id)) {
    fresh->count += by;
    if (by > 0) {
      fresh->places.push_back(place);
    }
    return;
  }
  if (const uint32_t pair = find(left, right); pair != kNone) {
    pairs_[pair].count += by;
  }
}

} // namespace moe
