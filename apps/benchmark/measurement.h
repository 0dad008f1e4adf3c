#pragma once

#include <torch/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "apps/benchmark/memory_levels.h"

namespace moe {

/// One figure of the benchmark.
struct Measurement {
  std::string suite;    ///< train, generate, block, ...
  std::string workload; ///< what was measured, such as fine
  std::string dtype;    ///< float32, ...; empty where there is none
  std::string metric;   ///< tokens_per_s, share_of_peak, ...
  double value = 0.0;
  std::string unit;
};

/// Best and median of repeated runs, in seconds.
struct Timing {
  double best = 0.0;
  double median = 0.0;
};

Timing timing_of(std::vector<double> seconds);

/// Times `run` `repetitions` times.
Timing time_runs(int64_t repetitions, const std::function<void()>& run);

/// What the machine can do, measured by the same program in the same run.
struct Machine {
  std::string cpu;
  int64_t threads = 0;
  /// Best rate of float32 at::mm on square matrices of 2048.
  double matmul_gflops = 0.0;
  /// Rates of reading, in GB/s, by the level that is read from.
  std::vector<MemoryLevel> read_levels;
  /// Best rate of copying 256 MiB, in GB/s read and written together.
  double copy_gb_per_s = 0.0;
};

Machine measure_machine(int64_t threads);

/// The rate of at::mm now, in GFLOP/s, measured as `Machine::matmul_gflops` is, in any type.
double matmul_rate(torch::ScalarType type);

/// Bytes of memory that the process takes now, and at most since `reset_peak_memory`.
int64_t resident_bytes();
int64_t peak_resident_bytes();
/// Forgets the peak so far; returns false where the system cannot.
bool reset_peak_memory();

} // namespace moe
