#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "moe/decoder/decoder_options.h"

namespace moe {

/// A parameter of a `DecoderLM`: its name and shape.
struct NamedShape {
  std::string name;
  std::vector<int64_t> shape;

  bool operator==(const NamedShape&) const = default;
};

/// All parameters of the `DecoderLM` with these options, layer by layer.
std::vector<NamedShape> decoder_tensors(const DecoderOptions& options);

} // namespace moe
