#include "moe/generation/stage_counters.h"

#include <array>
#include <barrier>
#include <numeric>
#include <thread>
#include <vector>

#include "tests/support/catch.h"

// Also built with ThreadSanitizer (moe_thread_sanitized_tests), which sees every pair of
// accesses that nothing orders, also those that came out well.

using namespace moe;

namespace {

constexpr int64_t kStages = 12;
constexpr int64_t kTasks = 5;

using Values = std::array<uint32_t, kTasks>;

/// The values that stages take in turns to read and to write, as the token loop's do. Each
/// result depends on all of the stage before and on what it replaces, so a task that ran early,
/// late, twice or never shows.
struct Buffers {
  std::array<Values, 2> values = {Values{1, 2, 3, 4, 5}, Values{}};

  uint32_t sum(int64_t stage) const {
    const auto& read = values[stage % 2];
    return std::accumulate(read.begin(), read.end(), uint32_t{0});
  }
  void add(int64_t stage, int64_t task, uint32_t sum) {
    values[(stage + 1) % 2][task] += sum * static_cast<uint32_t>(2 * task + 3);
  }
};

Buffers one_after_another() {
  Buffers buffers;
  for (int64_t stage = 0; stage < kStages; ++stage) {
    for (int64_t task = 0; task < kTasks; ++task) {
      buffers.add(stage, task, buffers.sum(stage));
    }
  }
  return buffers;
}

} // namespace

TEST_CASE(
    "StageCounters: every task once, after all tasks of the stage before", "[generation]") {
  constexpr int kRuns = 50;
  constexpr int kThreads = 6; // more than there are tasks: some come for nothing
  StageCounters counters(kStages);
  std::vector<Buffers> results(kRuns);
  // The same threads for all runs, as OpenMP has them.
  std::barrier between_runs(kThreads);
  const auto run_all = [&](bool resets) {
    for (auto& buffers : results) {
      if (resets) {
        counters.reset();
      }
      between_runs.arrive_and_wait();
      for (int64_t stage = 0; stage < kStages; ++stage) {
        uint32_t sum = 0;
        counters.run(
            stage,
            kTasks,
            [&] { sum = buffers.sum(stage); },
            [&](int64_t task) {
              std::this_thread::yield(); // gives the others a chance to run ahead
              buffers.add(stage, task, sum);
            });
      }
      between_runs.arrive_and_wait();
    }
  };
  std::vector<std::thread> others;
  for (int i = 1; i < kThreads; ++i) {
    others.emplace_back(run_all, /*resets=*/false);
  }
  run_all(/*resets=*/true);
  for (auto& thread : others) {
    thread.join();
  }
  const auto expected = one_after_another().values;
  for (const auto& buffers : results) {
    REQUIRE(buffers.values == expected);
  }
}

TEST_CASE("StageCounters: one thread alone does everything", "[generation]") {
  StageCounters counters(2);
  int64_t done = 0;
  counters.run(
      0, 5, [] {}, [&](int64_t) { ++done; });
  CHECK(done == 5);
  counters.run(
      1, 0, [&] { done = -1; }, [&](int64_t) { done = -1; });
  CHECK(done == 5);
  // Those that come late find nothing to do and wait for nobody.
  counters.run(
      0, 5, [&] { done = -1; }, [&](int64_t) { done = -1; });
  CHECK(done == 5);
}
