#pragma once

// Private to the library: not installed.

#include <cstdint>
#include <string>
#include <vector>

namespace moe {

/// Says which ids of a key are left out because no token has them: tiny test models keep those
/// of the model that they were cut from.
inline std::string foreign_ids_notice(
    const std::string& key, const std::vector<int64_t>& ids, int64_t vocab_size) {
  std::string list;
  for (const int64_t id : ids) {
    list += (list.empty() ? "" : ", ") + std::to_string(id);
  }
  return key + ": ignored " + list + ", which the vocabulary of " + std::to_string(vocab_size) +
         " tokens does not have";
}

} // namespace moe
