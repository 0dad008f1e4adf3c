#pragma once

#include <functional>

#include "moe/generation/module_session.h"
#include "moe/generation/traced_token.h"

namespace moe {

/// Computes tokens with the modules, and tells of each one that it takes in, those of the
/// prompt too, which experts it chose.
///
/// Example:
/// ```
/// TracingSession session(model, [](const TracedToken& token) { print(token); });
/// generate_tokens(session, prompt, options);
/// ```
class TracingSession : public ModuleSession {
 public:
  using TokenCallback = std::function<void(const TracedToken&)>;

  TracingSession(DecoderLM model, TokenCallback on_token);

  std::span<float> prefill(int64_t sequence, std::span<const int32_t> ids) override;

 private:
  TokenCallback on_token_;
};

} // namespace moe
