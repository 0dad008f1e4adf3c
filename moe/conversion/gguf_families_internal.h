#pragma once

#include <string>
#include <vector>

#include "moe/conversion/gguf_architecture.h"

namespace moe {

/// An architecture of Hugging Face, and what llama.cpp's form of it computes.
struct GgufFamily {
  std::string model_type;
  GgufArchitecture (*describe)(const DecoderOptions& options);
};

/// All that llama.cpp can express, by name.
const std::vector<GgufFamily>& gguf_family_list();

} // namespace moe
