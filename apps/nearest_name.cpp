#include "apps/nearest_name.h"

#include <algorithm>
#include <cstddef>

namespace moe {
namespace {

char plain(char c) {
  return c == '_' ? '-' : c;
}

// Damerau's distance (without edits between swapped letters), by rows of the usual table.
size_t typing_errors(std::string_view from, std::string_view to) {
  std::vector<size_t> before_last(to.size() + 1);
  std::vector<size_t> last(to.size() + 1);
  std::vector<size_t> row(to.size() + 1);
  for (size_t j = 0; j <= to.size(); ++j) {
    row[j] = j;
  }
  for (size_t i = 1; i <= from.size(); ++i) {
    std::swap(before_last, last);
    std::swap(last, row);
    row[0] = i;
    for (size_t j = 1; j <= to.size(); ++j) {
      const bool same = plain(from[i - 1]) == plain(to[j - 1]);
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (same ? 0 : 1)});
      const bool swapped = i > 1 && j > 1 && plain(from[i - 1]) == plain(to[j - 2]) &&
                           plain(from[i - 2]) == plain(to[j - 1]);
      if (swapped) {
        row[j] = std::min(row[j], before_last[j - 2] + 1);
      }
    }
  }
  return row[to.size()];
}

} // namespace

std::string nearest_name(std::string_view name, const std::vector<std::string>& known) {
  // Longer names allow more errors; an argument of absurd length is not compared at all.
  const size_t limit = std::max<size_t>(1, name.size() / 3);
  size_t fewest = limit + 1;
  std::string nearest;
  for (const std::string& candidate : known) {
    if (name.size() > candidate.size() + limit || candidate.size() > name.size() + limit) {
      continue;
    }
    const size_t errors = typing_errors(name, candidate);
    if (errors < fewest) {
      fewest = errors;
      nearest = candidate;
    }
  }
  return nearest;
}

std::string did_you_mean(std::string_view name, const std::vector<std::string>& known) {
  const std::string nearest = nearest_name(name, known);
  return nearest.empty() ? "" : "; did you mean '" + nearest + "'?";
}

} // namespace moe
