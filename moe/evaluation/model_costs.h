#pragma once

#include <cstdint>
#include <string>

#include "moe/decoder/decoder_options.h"

namespace moe {

/// Elements of the keys and values that generation keeps for one sequence of `length` tokens:
/// of all tokens, in layers with a window or chunks, too. Latent attention keeps one latent
/// vector and the turning part of one key per token.
int64_t cache_elements(const DecoderOptions& options, int64_t length);

/// Operations (two per multiplication with addition) for the token that follows `length` - 1
/// others: the matrices that it passes, and attention to the tokens that it sees (in the latent
/// space where there is one). Norms,
/// activations and the choice of experts are not counted: they are less than a hundredth.
int64_t token_operations(const DecoderOptions& options, int64_t length);

/// What the attention heads are and what they see: "4 query heads, 2 key and value heads of 32,
/// window of 128 in 3 of 4 layers".
std::string describe_attention(const DecoderOptions& options);

/// How tokens find their experts, as a sentence: "softmax over 8 experts, the 2 highest, ...".
/// "no experts" for a dense model.
std::string describe_routing(const DecoderOptions& options);

} // namespace moe
