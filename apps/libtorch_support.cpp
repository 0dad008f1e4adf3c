#include "apps/libtorch_support.h"

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <c10/util/Exception.h>
#include <torch/version.h>

namespace moe {

std::optional<std::string> describe_libtorch_error(const std::exception& error) {
  const auto* libtorch_error = dynamic_cast<const c10::Error*>(&error);
  if (libtorch_error == nullptr) {
    return std::nullopt;
  }
  return libtorch_error->what_without_backtrace();
}

std::string libtorch_details() {
  const int threads = at::get_num_threads();
  return "LibTorch " TORCH_VERSION ", " + std::to_string(threads) +
         (threads == 1 ? " thread" : " threads") + ", CPU capability " +
         at::get_cpu_capability();
}

} // namespace moe
