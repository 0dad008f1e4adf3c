#pragma once

#include <exception>
#include <optional>
#include <string>

namespace moe {

/// The message of a LibTorch exception without its stack trace; nothing for other exceptions.
/// For `run_main`.
std::optional<std::string> describe_libtorch_error(const std::exception& error);

/// "LibTorch 2.13.0, 2 threads, CPU capability AVX2", for `--version` and the head of a log.
std::string libtorch_details();

} // namespace moe
