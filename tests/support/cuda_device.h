#pragma once

#include <torch/cuda.h>

#include "tests/support/catch.h"

namespace moe::testing {

/// Whether there is a CUDA device. A test tagged [gpu] returns where there is none; ctest
/// counts it as skipped by what is said here.
inline bool has_cuda_device() {
  if (torch::cuda::is_available()) {
    return true;
  }
  WARN("skipped: there is no CUDA device");
  return false;
}

} // namespace moe::testing
