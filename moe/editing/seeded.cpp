#include "moe/editing/seeded.h"

#include <ATen/CPUGeneratorImpl.h>

namespace moe {

at::Generator seeded_generator(std::initializer_list<int64_t> numbers) {
  // splitmix64's finaliser over all numbers.
  uint64_t state = 0;
  for (const int64_t number : numbers) {
    state += static_cast<uint64_t>(number) + 0x9e3779b97f4a7c15ULL;
    state = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9ULL;
    state = (state ^ (state >> 27)) * 0x94d049bb133111ebULL;
    state ^= state >> 31;
  }
  return at::detail::createCPUGenerator(state);
}

} // namespace moe
