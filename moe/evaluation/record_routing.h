#pragma once

#include <string>
#include <vector>

#include "moe/decoder/decoder_lm.h"
#include "moe/evaluation/routing_record.h"

namespace moe {

/// A text whose routing is recorded.
struct RecordedDomain {
  std::string name;
  TokenFile tokens;
};

/// How much is recorded.
struct RecordOptions {
  int64_t max_tokens = 8192;  ///< per domain
  int64_t piece_length = 256; ///< tokens that the model reads in one go; at most its context
  int64_t batch_size = 8;     ///< pieces per forward pass
  int64_t seed = 0;           ///< chooses the pieces
};

/// Reads pieces of the domains' documents (`choose_pieces`) with the model and records what its
/// routers decide. The model's training mode is left as it was; nothing of it changes. Throws
/// `Error` for a model without experts.
RoutingRecord record_routing(
    DecoderLM model, const std::vector<RecordedDomain>& domains, const RecordOptions& options);

} // namespace moe
