#pragma once

#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>

#include <algorithm>
#include <memory>

namespace moe::testing {

/// Counts the bytes of tensors in the CPU's memory that this thread makes and frees while it
/// lives.
class TensorMemory {
 public:
  int64_t current() const {
    return counter_->current;
  }
  int64_t peak() const {
    return counter_->peak;
  }
  /// Forgets the peak so far.
  void reset_peak() {
    counter_->peak = counter_->current;
  }

 private:
  struct Counter : c10::MemoryReportingInfoBase {
    void reportMemoryUsage(
        void* /*address*/,
        int64_t size,
        size_t /*allocated*/,
        size_t /*reserved*/,
        c10::Device /*device*/) override {
      current += size;
      peak = std::max(peak, current);
    }
    bool memoryProfilingEnabled() const override {
      return true;
    }

    int64_t current = 0;
    int64_t peak = 0;
  };

  std::shared_ptr<Counter> counter_ = std::make_shared<Counter>();
  c10::DebugInfoGuard guard_{c10::DebugInfoKind::PROFILER_STATE, counter_};
};

} // namespace moe::testing
