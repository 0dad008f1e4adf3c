#pragma once

#include <algorithm>
#include <cstdint>

// Private; not installed.

namespace moe::cpu {

/// The indices of the `k` largest of `values` [size], the largest first, of equal ones the
/// lower index. `k` is at most `size`. Where values are NaN the indices are still distinct.
inline void top_k(int64_t size, const float* values, int64_t k, int64_t* best) {
  int64_t found = 0;
  for (int64_t i = 0; i < size; ++i) {
    if (found == k && !(values[i] > values[best[k - 1]])) {
      continue;
    }
    int64_t place = found < k ? found++ : k - 1;
    for (; place > 0 && values[i] > values[best[place - 1]]; --place) {
      best[place] = best[place - 1];
    }
    best[place] = i;
  }
}

} // namespace moe::cpu
