#include "moe/generation/generator.h"

#include <algorithm>
#include <chrono>

#include "moe/data/tokenizer/stream_decoder.h"
#include "moe/error.h"
#include "moe/generation/sampler.h"
#include "moe/generation/stop_text.h"

namespace moe {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

void check_prompt(const std::vector<int32_t>& prompt, const DecoderOptions& model) {
  check(!prompt.empty(), "prompt: it has no token");
  check(
      static_cast<int64_t>(prompt.size()) < model.context_length,
      "prompt: ",
      prompt.size(),
      " tokens leave no room in the model's context of ",
      model.context_length);
  for (const int32_t id : prompt) {
    check(
        id >= 0 && id < model.vocab_size,
        "prompt: the model has no token ",
        id,
        "; its vocabulary has ",
        model.vocab_size);
  }
}

/// Turns ids into text that is handed out as soon as it is certain.
class TextStream {
 public:
  TextStream(
      const Tokenizer& tokenizer,
      const SamplerOptions& options,
      bool continues,
      const TextCallback& on_text,
      std::string& text)
      : tokenizer_(tokenizer),
        decoder_(tokenizer, /*skip_special=*/false, continues),
        stop_(options.stop),
        on_text_(on_text),
        text_(text) {}

  /// Whether to go on. An id that only the model has, because its vocabulary is rounded up,
  /// has no text.
  bool push(int32_t id) {
    if (!tokenizer_.has_token(id)) {
      return true;
    }
    return hand_out(stop_.push(decoder_.push(id))) && !stop_.found();
  }

  void finish() {
    hand_out(stop_.push(decoder_.finish()));
    hand_out(stop_.finish());
  }

 private:
  bool hand_out(const std::string& piece) {
    text_ += piece;
    return piece.empty() || !on_text_ || on_text_(piece);
  }

  const Tokenizer& tokenizer_;
  StreamDecoder decoder_;
  StopText stop_;
  const TextCallback& on_text_;
  std::string& text_;
};

} // namespace

std::string_view finish_reason_name(FinishReason reason) {
  switch (reason) {
    case FinishReason::length:
      return "length";
    case FinishReason::stop:
      return "stop";
    case FinishReason::end_of_text:
      return "end_of_text";
  }
  fail("finish reason: no name for value ", static_cast<int>(reason));
}

Generation generate_tokens(
    InferenceSession& session,
    const std::vector<int32_t>& prompt,
    const SamplerOptions& options,
    const std::vector<int32_t>& end_of_text,
    const TokenCallback& on_token) {
  check_prompt(prompt, session.options());
  const auto prompt_tokens = static_cast<int64_t>(prompt.size());
  const int64_t room = session.options().context_length - prompt_tokens;
  const int64_t limit = std::min(options.max_new_tokens, room);
  Sampler sampler(options);
  Generation generation;
  generation.prompt_tokens = prompt_tokens;
  generation.context_full = limit < options.max_new_tokens;
  session.begin(/*num_sequences=*/1, prompt_tokens + limit);
  auto history = prompt;
  auto begin = Clock::now();
  for (int64_t i = 0; i < limit && generation.finish == FinishReason::length; ++i) {
    const auto logits =
        i == 0 ? session.prefill(0, prompt) : session.decode({&history.back(), 1});
    if (i == 0) {
      generation.prefill_seconds = seconds_since(begin);
      begin = Clock::now();
    }
    const int32_t id = sampler.sample(logits, history);
    generation.ids.push_back(id);
    history.push_back(id);
    const bool ends =
        std::find(end_of_text.begin(), end_of_text.end(), id) != end_of_text.end();
    if (ends && !options.ignore_end_of_text) {
      generation.finish = FinishReason::end_of_text;
    } else if (on_token && !on_token(id)) {
      generation.finish = FinishReason::stop;
    }
  }
  generation.decode_seconds = seconds_since(begin);
  generation.context_full &= generation.finish == FinishReason::length;
  return generation;
}

Generation generate_tokens(
    const DecoderLM& model,
    const std::vector<int32_t>& prompt,
    const SamplerOptions& options,
    const std::vector<int32_t>& end_of_text,
    const TokenCallback& on_token) {
  const auto session = make_inference_session(model);
  return generate_tokens(*session, prompt, options, end_of_text, on_token);
}

Generator::Generator(
    std::shared_ptr<InferenceSession> session, Tokenizer tokenizer, TextRules rules)
    : session_(std::move(session)), tokenizer_(std::move(tokenizer)), rules_(std::move(rules)) {
  if (const auto end_of_text = tokenizer_.end_of_text()) {
    rules_.end_of_text.push_back(*end_of_text);
  }
}

Generator::Generator(const DecoderLM& model, Tokenizer tokenizer, TextRules rules)
    : Generator(make_inference_session(model), std::move(tokenizer), std::move(rules)) {}

Generation Generator::generate(
    const std::vector<int32_t>& prompt,
    const SamplerOptions& options,
    const TextCallback& on_text) {
  auto ids = prompt;
  if (ids.empty()) {
    const auto end_of_text = tokenizer_.end_of_text();
    check(
        end_of_text.has_value(),
        "prompt: it is empty, and the tokenizer has no end-of-text token to begin with");
    ids.push_back(*end_of_text);
  }
  std::string text;
  TextStream stream(tokenizer_, options, rules_.continues_prompt, on_text, text);
  auto generation = generate_tokens(
      *session_, ids, options, rules_.end_of_text, [&](int32_t id) { return stream.push(id); });
  stream.finish();
  generation.text = std::move(text);
  return generation;
}

} // namespace moe
