#include "moe/conversion/more_tokens.h"

#include "moe/libtorch.h"

namespace moe {

void add_tokens(DecoderOptions& options, LazyTensors& tensors, int64_t vocab_size) {
  const int64_t added = vocab_size - options.vocab_size;
  if (added <= 0) {
    return;
  }
  for (const char* name : {"embedding.weight", "lm_head.weight", "head_bias"}) {
    const auto found = tensors.find(name);
    if (found == tensors.end()) {
      continue;
    }
    auto& tensor = found->second;
    tensor.shape[0] = vocab_size;
    tensor.make = [make = tensor.make, added] {
      const auto rows = make(); // [V, D], or [V]
      const auto mean = rows.mean(0, /*keepdim=*/true, torch::kFloat32).to(rows.scalar_type());
      auto sizes = rows.sizes().vec();
      sizes[0] = added;
      return torch::cat({rows, mean.expand(sizes)});
    };
  }
  options.vocab_size = vocab_size;
}

} // namespace moe
