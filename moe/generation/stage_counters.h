#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace moe {

/// Lets threads that run the same sequence of stages share the tasks of each stage.
///
/// A thread takes the next task of a stage whenever it is done with one and leaves the stage
/// when all its tasks are done, by whomever. So no thread is ever waited for that has not begun
/// a task: one that the system starts late or never costs nothing but its help.
class StageCounters {
 public:
  explicit StageCounters(int64_t num_stages) : stages_(static_cast<size_t>(num_stages)) {}

  /// Before each run through the stages, by one thread, while no other is in a stage.
  void reset() {
    for (auto& stage : stages_) {
      stage.next.store(0, std::memory_order_relaxed);
      stage.done.store(0, std::memory_order_relaxed);
    }
  }

  /// Calls `body(task)` for those tasks in [0, num_tasks) that this thread gets; `prepare()`
  /// once before the first of them. Returns when the tasks of all threads are done.
  template <class Prepare, class Body>
  void run(int64_t stage_index, int64_t num_tasks, const Prepare& prepare, const Body& body) {
    Stage& stage = stages_[static_cast<size_t>(stage_index)];
    int64_t mine = 0;
    for (;;) {
      const int64_t task = stage.next.fetch_add(1, std::memory_order_relaxed);
      if (task >= num_tasks) {
        break;
      }
      if (mine++ == 0) {
        prepare();
      }
      body(task);
    }
    if (mine > 0) {
      stage.done.fetch_add(mine, std::memory_order_release);
    }
    wait(stage, num_tasks);
  }

 private:
  // Each on a cache line of its own.
  struct alignas(64) Stage {
    std::atomic<int64_t> next{0};
    std::atomic<int64_t> done{0};
  };

  static void wait(const Stage& stage, int64_t num_tasks) {
    // Stages take microseconds: spin, but give the processor away should the other thread have
    // lost its own.
    constexpr int64_t kSpins = 4096;
    for (int64_t i = 0; stage.done.load(std::memory_order_acquire) < num_tasks; ++i) {
      if (i < kSpins) {
#ifdef __x86_64__
        __builtin_ia32_pause();
#endif
      } else {
        std::this_thread::yield();
      }
    }
  }

  std::vector<Stage> stages_;
};

} // namespace moe
