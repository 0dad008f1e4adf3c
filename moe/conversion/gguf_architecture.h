#pragma once

#include <string>
#include <utility>
#include <vector>

#include "moe/conversion/gguf_file.h"
#include "moe/decoder/decoder_options.h"

namespace moe {

/// One of llama.cpp's architectures, as far as it computes what our decoder computes.
struct GgufArchitecture {
  std::string name; ///< `general.architecture`
  /// What llama.cpp computes for the model: the options that its file says, and fixed ones.
  DecoderOptions computes;
  bool rotary_pairs = false;  ///< elements that turn together lie side by side
  bool head_required = false; ///< a vocabulary head is in the file even if it is the embedding
  bool multipliers = false;   ///< the file says how much embedding, residual, logits are scaled
  bool multiplies_logits = false; ///< by a number in the file
  bool window_by_layer = false;   ///< the file says which layers have the window
  bool fused_projections = false; ///< queries, keys and values are one tensor, and clamped
  int64_t expert_step = 1; ///< every so many layers one has experts, after the dense ones
  std::string attention_norm = "attn_norm";
  std::string feed_forward_norm = "ffn_norm";
};

/// The `model_type`s of Hugging Face that have an architecture here.
std::vector<std::string> gguf_families();

/// llama.cpp's architecture for a family with these options. Throws `Error` that names the
/// family, or the options that llama.cpp would compute otherwise.
GgufArchitecture gguf_architecture(const std::string& family, const DecoderOptions& options);

/// What the file says about the model besides its tokenizer.
GgufMetadata gguf_metadata(const GgufArchitecture& architecture, const DecoderOptions& options);

} // namespace moe
