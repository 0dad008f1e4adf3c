#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace moe {

/// A cache or the memory, and how fast all threads together read from it.
struct MemoryLevel {
  std::string name;  ///< L1, L2, L3 or DRAM
  int64_t bytes = 0; ///< of all threads' caches of this level together; 0 for DRAM
  double gb_per_s = 0.0;
};

/// Measures each level, nearest first, DRAM last. Every thread reads a part of its own, half as
/// large as its share of the cache (256 MiB in all for DRAM), with the widest loads that the
/// processor has; the best of several rounds counts. Caches that the system does not describe
/// are left out.
std::vector<MemoryLevel> measure_memory_levels(int64_t threads);

/// The nearest level that holds `bytes` spread over the threads that were measured.
const MemoryLevel& level_that_holds(const std::vector<MemoryLevel>& levels, double bytes);

} // namespace moe
