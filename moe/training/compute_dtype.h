#pragma once

#include <string>

namespace moe {

/// The type of computation that `dtype` stands for: "auto" is float32, in which all kernels
/// compute, those of attention and head alone; any other name is returned as it is. It never
/// depends on a timing, so a run computes the same wherever it is repeated.
std::string resolve_dtype(const std::string& dtype);

/// Whether this processor multiplies bfloat16; true where that is not known.
bool cpu_multiplies_bfloat16();

/// What to tell whoever asks for `dtype` on `device`; empty if there is nothing to say.
std::string dtype_warning(
    const std::string& dtype, const std::string& device, bool multiplies_bfloat16);

} // namespace moe
