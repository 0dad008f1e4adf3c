#include "apps/benchmark/measurement.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include <algorithm>
#include <fstream>

#include "moe/libtorch.h"

namespace moe {
namespace {

std::string cpu_name() {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line)) {
    if (line.starts_with("model name")) {
      return line.substr(line.find(':') + 2);
    }
  }
  return "unknown";
}

double copy_rate() {
  const auto from = torch::ones({64 << 20}); // 256 MiB
  auto to = torch::empty_like(from);
  const auto timing = time_runs(/*repetitions=*/8, [&] { to.copy_(from); });
  return 2.0 * static_cast<double>(from.nbytes()) / timing.best / 1e9;
}

/// A line of /proc/self/status such as `VmRSS:  1234 kB`, in bytes.
int64_t status_bytes(const std::string& key) {
  std::ifstream file("/proc/self/status");
  std::string line;
  while (std::getline(file, line)) {
    if (line.starts_with(key)) {
      return std::stoll(line.substr(key.size() + 1)) * 1024;
    }
  }
  return 0;
}

} // namespace

Timing timing_of(std::vector<double> seconds) {
  std::sort(seconds.begin(), seconds.end());
  return {seconds.front(), seconds[seconds.size() / 2]};
}

Timing time_runs(int64_t repetitions, const std::function<void()>& run) {
  std::vector<double> seconds;
  for (int64_t i = 0; i < repetitions; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    run();
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
    seconds.push_back(elapsed.count());
  }
  return timing_of(std::move(seconds));
}

double matmul_rate(torch::ScalarType type) {
  const torch::NoGradGuard no_grad;
  const auto a = torch::randn({2048, 2048}).to(type);
  const auto b = torch::randn({2048, 2048}).to(type);
  auto c = torch::empty({2048, 2048}, type);
  const auto timing = time_runs(/*repetitions=*/8, [&] { torch::mm_out(c, a, b); });
  return 2.0 * 2048 * 2048 * 2048 / timing.best / 1e9;
}

Machine measure_machine(int64_t threads) {
  const torch::NoGradGuard no_grad;
  return {
      cpu_name(),
      threads,
      matmul_rate(torch::kFloat32),
      measure_memory_levels(threads),
      copy_rate()};
}

int64_t resident_bytes() {
  return status_bytes("VmRSS:");
}

int64_t peak_resident_bytes() {
  return status_bytes("VmHWM:");
}

bool reset_peak_memory() {
#ifdef __GLIBC__
  malloc_trim(0); // what was freed would count as taken before
#endif
  std::ofstream file("/proc/self/clear_refs");
  file << "5" << std::flush;
  return static_cast<bool>(file);
}

} // namespace moe
