#include "moe/generation/stage_counters.h"

#include <thread>
#include <vector>

#include "tests/support/catch.h"

using namespace moe;

TEST_CASE(
    "StageCounters: every task once, after all tasks of the stage before", "[generation]") {
  constexpr int64_t kStages = 40;
  constexpr int64_t kTasks = 17;
  StageCounters counters(kStages);
  for (int repetition = 0; repetition < 20; ++repetition) {
    counters.reset();
    std::vector<std::vector<int64_t>> results(kStages, std::vector<int64_t>(kTasks, 0));
    // Each result adds up all of the stage before, so a task that ran early, twice or never
    // shows.
    const auto run_stages = [&] {
      for (int64_t stage = 0; stage < kStages; ++stage) {
        int64_t sum = 1;
        counters.run(
            stage,
            kTasks,
            [&] {
              for (int64_t task = 0; task < kTasks && stage > 0; ++task) {
                sum += results[stage - 1][task];
              }
            },
            [&](int64_t task) {
              std::this_thread::yield(); // gives the others a chance to run ahead
              results[stage][task] += sum % 1009;
            });
      }
    };
    std::thread second(run_stages);
    std::thread third(run_stages);
    run_stages();
    second.join();
    third.join();
    int64_t expected = 1;
    for (const auto& stage : results) {
      for (const int64_t result : stage) {
        REQUIRE(result == expected % 1009);
      }
      expected = 1 + kTasks * (expected % 1009);
    }
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
