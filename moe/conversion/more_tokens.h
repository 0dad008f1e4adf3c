#pragma once

#include "moe/checkpoint/model_folder.h"

namespace moe {

/// A model for a larger vocabulary: `options` and `tensors` are changed so that there are
/// `vocab_size` tokens. New rows of the embedding and of the vocabulary head (and new elements
/// of its bias) are the mean of the others, so that no new token is likelier than they are. A
/// model that has as many tokens stays as it is.
void add_tokens(DecoderOptions& options, LazyTensors& tensors, int64_t vocab_size);

} // namespace moe
