#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>

// Private to moe/kernels/cpu_*.cpp; not installed.

namespace moe::cpu {

/// Calls `body(task, scratch)` for every task in [0, num_tasks), on LibTorch's threads. A
/// thread takes the next task whenever it is done with one, so tasks are begun in order and a
/// thread that the system holds up delays the others by one task at most. `scratch` points to
/// `scratch_size` floats of the thread's own, with any content.
template <typename Body>
void run_tasks(int64_t num_tasks, int64_t scratch_size, const Body& body) {
  const auto num_threads = at::in_parallel_region() ? 1 : int64_t{at::get_num_threads()};
  const auto num_workers = std::min(num_tasks, num_threads);
  const int64_t stride = (scratch_size + 15) / 16 * 16; // a multiple of the cache line
  const auto scratch = at::empty({num_workers * stride}, at::kFloat);
  float* const first = scratch.mutable_data_ptr<float>();
  std::atomic<int64_t> next{0};
  at::parallel_for(0, num_workers, /*grain_size=*/1, [&](int64_t begin, int64_t end) {
    for (int64_t worker = begin; worker < end; ++worker) {
      for (int64_t task = next++; task < num_tasks; task = next++) {
        body(task, first + worker * stride);
      }
    }
  });
}

} // namespace moe::cpu
