#pragma once

#include <ATen/core/Generator.h>

#include <cstdint>
#include <initializer_list>

namespace moe {

/// A random generator for these numbers (a seed, a layer, an expert, ...): the same numbers
/// give the same one, others another.
at::Generator seeded_generator(std::initializer_list<int64_t> numbers);

} // namespace moe
