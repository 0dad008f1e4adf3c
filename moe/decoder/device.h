#pragma once

#include <torch/types.h>

#include <string>

namespace moe {

/// The device called `name`: "cpu", or "cuda" where there is one. Throws `Error` otherwise.
torch::Device find_device(const std::string& name);

/// The type called `name`: "float32" or "bfloat16". Throws `Error` otherwise.
torch::ScalarType find_dtype(const std::string& name);

/// Uses this many threads for computation, or one per core for 0. Returns the number.
int64_t use_threads(int64_t threads);

} // namespace moe
