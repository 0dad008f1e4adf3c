#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "moe/data/tokenizer/tokenizer.h"
#include "moe/decoder/decoder_lm.h"
#include "moe/generation/inference_session.h"
#include "moe/generation/sampler_options.h"

namespace moe {

/// Why a text ended.
enum class FinishReason {
  length,      ///< `max_new_tokens`, or the end of the model's context
  stop,        ///< one of the stop texts, or the caller asked for it
  end_of_text, ///< the end-of-text token
};

/// "length", "stop" or "end_of_text".
std::string_view finish_reason_name(FinishReason reason);

/// A text that a model wrote.
struct Generation {
  std::string text;         ///< without the prompt and without a stop text
  std::vector<int32_t> ids; ///< the new tokens, an end-of-text token included
  FinishReason finish = FinishReason::length;
  bool context_full = false; ///< ended because the model's context was full
  int64_t prompt_tokens = 0;
  double prefill_seconds = 0.0; ///< until the logits of the first new token
  double decode_seconds = 0.0;  ///< for the others
};

/// Receives each piece of text as soon as it is certain, always whole characters. Returns
/// whether to go on.
using TextCallback = std::function<bool(std::string_view)>;

/// Receives each new token. Returns whether to go on.
using TokenCallback = std::function<bool(int32_t)>;

/// Writes tokens on from a prompt of at least one, without turning them into text: `text` of
/// the result is empty. Stops after any id of `end_of_text` unless the options ignore it, and
/// at the end of the model's context. Throws `Error` for a prompt that leaves no room for one
/// token, or ids that the model does not have.
Generation generate_tokens(
    InferenceSession& session,
    const std::vector<int32_t>& prompt,
    const SamplerOptions& options,
    const std::vector<int32_t>& end_of_text = {},
    const TokenCallback& on_token = {});

/// The same with a session of its own, made for this one text.
Generation generate_tokens(
    const DecoderLM& model,
    const std::vector<int32_t>& prompt,
    const SamplerOptions& options,
    const std::vector<int32_t>& end_of_text = {},
    const TokenCallback& on_token = {});

/// How a generator reads what the model writes.
struct TextRules {
  /// Ids that end a text besides the tokenizer's end-of-text token.
  std::vector<int32_t> end_of_text;
  /// The text goes on from the prompt: a space that begins it stays. Not so for a reply.
  bool continues_prompt = true;
};

/// Writes on from prompts, with one pass over the prompt and then one token at a time from the
/// keys and values of the tokens before it. One that is made of a model follows it: it can be
/// kept while the model trains, and each text is written with the weights of that time (see
/// `InferenceSession`).
///
/// Example:
/// ```
/// Generator generator(model, tokenizer);
/// Generation text = generator.generate(tokenizer.encode("Der Kernel"), SamplerOptions{});
/// ```
class Generator {
 public:
  Generator(
      std::shared_ptr<InferenceSession> session, Tokenizer tokenizer, TextRules rules = {});
  /// With float32 weights.
  Generator(const DecoderLM& model, Tokenizer tokenizer, TextRules rules = {});

  /// Writes on from `prompt` as `generate_tokens` does; an empty one begins a document: it
  /// stands for the end-of-text token. Ends before a stop text, too.
  Generation generate(
      const std::vector<int32_t>& prompt,
      const SamplerOptions& options,
      const TextCallback& on_text = {});

 private:
  std::shared_ptr<InferenceSession> session_;
  Tokenizer tokenizer_;
  TextRules rules_;
};

} // namespace moe
