#pragma once

#include <string>

#include "moe/kernels/bfloat16_instructions.h"

namespace moe {

/// The type of computation that `dtype` stands for on `device`: "auto" is bfloat16 on a CPU
/// whose instructions for it are faster than those for float32, and float32 elsewhere; any
/// other name is returned as it is. It never depends on a timing, so a run computes the same
/// wherever it is repeated on a processor of the same features.
std::string resolve_dtype(
    const std::string& dtype,
    const std::string& device,
    BFloat16Instructions instructions = bfloat16_instructions());

/// What to tell whoever asks for `dtype` on `device`; empty if there is nothing to say.
std::string dtype_warning(
    const std::string& dtype,
    const std::string& device,
    BFloat16Instructions instructions = bfloat16_instructions());

} // namespace moe
