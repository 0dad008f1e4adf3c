#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "moe/decoder/decoder_options.h"

namespace moe {

/// A parameter or buffer of a `DecoderLM`: its name and shape.
struct NamedShape {
  std::string name;
  std::vector<int64_t> shape;

  bool operator==(const NamedShape&) const = default;
};

/// How the names of the routers' selection biases end: buffers in float32, whatever the type of
/// the model.
constexpr const char* kSelectionBias = "router.selection_bias";

/// All parameters and buffers of the `DecoderLM` with these options, layer by layer. The
/// embedding is the first, the vocabulary head (unless it is tied) the last.
std::vector<NamedShape> decoder_tensors(const DecoderOptions& options);

/// Whether a tensor of that name is a buffer in float32, not a parameter.
bool is_buffer(const std::string& name);

} // namespace moe
