#include "moe/decoder/device.h"

#include <ATen/Parallel.h>
#include <torch/cuda.h>

#include <algorithm>
#include <thread>

#include "moe/error.h"

namespace moe {

torch::Device find_device(const std::string& name) {
  check(name == "cpu" || name == "cuda", "device: '", name, "' is not known; cpu or cuda");
  if (name == "cpu") {
    return torch::kCPU;
  }
  check(
      torch::cuda::is_available(),
      "device: there is no cuda device, or LibTorch was built without CUDA; use cpu");
  return torch::kCUDA;
}

torch::ScalarType find_dtype(const std::string& name) {
  check(
      name == "float32" || name == "bfloat16",
      "dtype: '",
      name,
      "' is not known; float32 or bfloat16");
  return name == "float32" ? torch::kFloat32 : torch::kBFloat16;
}

int64_t use_threads(int64_t threads) {
  const auto cores = std::max<int64_t>(1, std::thread::hardware_concurrency());
  const int64_t count = threads > 0 ? threads : cores;
  at::set_num_threads(static_cast<int>(count));
  return count;
}

} // namespace moe
