#include "apps/benchmark/memory_levels.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <fstream>
#include <numeric>

#include "apps/benchmark/measurement.h"

namespace moe {
namespace {

constexpr int64_t kDramBytes = 256 << 20;
constexpr int64_t kBytesPerRound = 512 << 20;

// Each of the four sums reads a part of its own, whole cache lines.
constexpr int64_t kWords = 4 * 8;

/// Reads `words`, a multiple of kWords, and returns their sum, so that reading is not left out.
/// Four sums, so that no addition waits for the one before.
#if defined(__x86_64__)
[[gnu::target_clones("default", "avx2", "avx512f")]]
#endif
uint64_t
sum_words(const uint64_t* data, int64_t words) {
  const int64_t part = words / 4;
  uint64_t a = 0;
  uint64_t b = 0;
  uint64_t c = 0;
  uint64_t d = 0;
  for (int64_t i = 0; i < part; ++i) {
    a += data[i];
    b += data[part + i];
    c += data[2 * part + i];
    d += data[3 * part + i];
  }
  return a + b + c + d;
}

/// The best rate at which `threads` threads read `bytes_per_thread` each, again and again.
double read_rate(int64_t threads, int64_t bytes_per_thread) {
  const int64_t words = std::max(kWords, bytes_per_thread / 8 / kWords * kWords);
  const int64_t rounds = std::max<int64_t>(1, kBytesPerRound / (words * 8));
  std::vector<std::vector<uint64_t>> storage(static_cast<size_t>(threads));
  std::vector<uint64_t> sums(static_cast<size_t>(threads));
  const auto for_each_thread = [&](const auto& body) {
    at::parallel_for(0, threads, /*grain_size=*/1, [&](int64_t begin, int64_t end) {
      for (auto thread = static_cast<size_t>(begin); thread < static_cast<size_t>(end);
           ++thread) {
        body(thread);
      }
    });
  };
  // Each thread fills its own part, which begins with a cache line.
  for_each_thread([&](size_t thread) {
    storage[thread].resize(static_cast<size_t>(words) + 8);
    std::iota(storage[thread].begin(), storage[thread].end(), thread);
  });
  const auto timing = time_runs(/*repetitions=*/8, [&] {
    for_each_thread([&](size_t thread) {
      const auto address = reinterpret_cast<uintptr_t>(storage[thread].data());
      const auto* data = storage[thread].data() + (64 - address % 64) % 64 / 8;
      uint64_t sum = 0;
      for (int64_t round = 0; round < rounds; ++round) {
        sum += sum_words(data, words);
      }
      sums[thread] += sum;
    });
  });
  return static_cast<double>(threads * rounds * words * 8) / timing.best / 1e9;
}

/// One line of a file that describes a cache of the first processor; empty if there is none.
std::string cache_line(int index, const char* name) {
  std::ifstream file(
      "/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(index) + "/" + name);
  std::string line;
  std::getline(file, line);
  return line;
}

/// Bytes of a data cache of this level ("32K", "1M"), 0 if there is none.
int64_t cache_bytes(int level) {
  for (int index = 0; index < 8; ++index) {
    if (cache_line(index, "level") == std::to_string(level) &&
        cache_line(index, "type") != "Instruction") {
      const auto size = cache_line(index, "size");
      const int64_t unit = size.ends_with('M') ? 1 << 20 : size.ends_with('K') ? 1 << 10 : 1;
      return std::atoll(size.c_str()) * unit;
    }
  }
  return 0;
}

} // namespace

std::vector<MemoryLevel> measure_memory_levels(int64_t threads) {
  std::vector<MemoryLevel> levels;
  int64_t nearer = 0; // bytes per thread of the level before
  const std::vector<std::string> names{"L1", "L2", "L3"};
  for (const int level : {1, 2, 3}) {
    // The first two levels belong to a core, the third to all of them.
    const auto bytes = cache_bytes(level) * (level < 3 ? threads : 1);
    const auto part = bytes / threads / 2;
    if (part > nearer) {
      levels.push_back({names[level - 1], bytes, read_rate(threads, part)});
      nearer = bytes / threads;
    }
  }
  levels.push_back({"DRAM", 0, read_rate(threads, kDramBytes / threads)});
  return levels;
}

const MemoryLevel& level_that_holds(const std::vector<MemoryLevel>& levels, double bytes) {
  const auto found = std::find_if(levels.begin(), levels.end(), [&](const MemoryLevel& level) {
    return static_cast<double>(level.bytes) >= bytes;
  });
  return found == levels.end() ? levels.back() : *found;
}

} // namespace moe
