#include <algorithm>

#include "moe/checkpoint/tensor_problems_internal.h"
#include "moe/files/quote_internal.h"

namespace moe {
namespace {

void append(
    std::string& text, const char* kind, const std::vector<std::string>& items, size_t most) {
  if (items.empty()) {
    return;
  }
  text += (text.empty() ? "" : "; ") + std::string(kind);
  const size_t shown = std::min(items.size(), most);
  for (size_t i = 0; i < shown; ++i) {
    text += (i == 0 ? " " : ", ") + items[i];
  }
  if (shown < items.size()) {
    text += " and " + std::to_string(items.size() - shown) + " more";
  }
}

} // namespace

bool TensorProblems::none() const {
  return missing.empty() && unexpected.empty() && misfits.empty();
}

std::string TensorProblems::text(size_t most) const {
  std::string result;
  append(result, "missing:", missing, most);
  append(result, "unexpected:", unexpected, most);
  append(result, "not fitting:", misfits, most);
  return result;
}

std::string shape_misfit(
    const std::string& name,
    const std::vector<int64_t>& found,
    const std::vector<int64_t>& needed) {
  return name + " " + shape_text(found).substr(0, 100) + " instead of " + shape_text(needed);
}

} // namespace moe
