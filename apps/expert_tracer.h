#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "apps/expert_trace.h"
#include "moe/decoder/decoder_options.h"
#include "moe/generation/generator.h"

namespace moe {

/// The bytes of a token.
using TextOfToken = std::function<std::string(int32_t)>;

/// Which experts each token chose: as lines on stdout while they are computed, or as JSON. Does
/// nothing unless it is enabled.
class ExpertTracer {
 public:
  /// Throws `Error` for a model without experts if it is enabled.
  ExpertTracer(bool enabled, bool as_json, const DecoderOptions& model);

  bool enabled() const {
    return enabled_;
  }

  /// Begins the trace of one text.
  void begin(TextOfToken text_of);

  /// Takes in one token; what a `TracingSession` calls.
  void add(const TracedToken& token);

  /// Ends the trace with the token that was written last, which nothing followed and so nobody
  /// computed.
  void finish(InferenceSession& session, const Generation& generation) const;

  /// Adds `moe_layers` and `tokens` to the JSON of a text.
  void add_to(nlohmann::ordered_json& result) const;

 private:
  bool enabled_;
  bool as_json_;
  TraceStyle style_;
  TextOfToken text_of_;
  nlohmann::ordered_json tokens_;
};

} // namespace moe
