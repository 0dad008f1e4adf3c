#include "moe/conversion/gguf_tokenizer.h"

#include <algorithm>

#include "moe/data/tokenizer/tokenizer_json.h"
#include "moe/error.h"

namespace moe {
namespace {

/// llama.cpp's kinds of tokens.
constexpr int32_t kNormal = 1;
constexpr int32_t kControl = 3;
constexpr int32_t kUserDefined = 4;
constexpr int32_t kUnused = 5;

/// Whether texts that are in NFC already stay as they are.
bool keeps_nfc(const TokenizerDefinition& definition) {
  return std::all_of(
      definition.normalizer.begin(), definition.normalizer.end(), [](const auto& step) {
        return step.kind == NormalizerStep::Kind::nfc;
      });
}

/// What llama.cpp calls the pattern.
std::string pattern_name(const TokenizerDefinition& definition) {
  const auto& steps = definition.pre_tokenizer;
  const bool is_scanner = steps.size() == 1 && steps[0].kind == PreTokenizerStep::Kind::scanner;
  const bool has_merges = !definition.model.merges.empty();
  check(
      definition.byte_level && keeps_nfc(definition) &&
          (is_scanner || (steps.empty() && !has_merges)),
      "gguf: this kind of tokenizer is not supported, only byte-level BPE with the patterns of "
      "GPT-2, Qwen2 and Llama 3, without a normaliser other than NFC");
  switch (is_scanner ? steps[0].pattern : Pattern::none) {
    case Pattern::qwen2:
      return "qwen2";
    case Pattern::llama3:
      return "llama-bpe";
    default:
      return "gpt-2"; // of single bytes, too: without merges the pattern makes no difference
  }
}

} // namespace

std::vector<std::pair<std::string, GgufValue>> gguf_tokenizer(
    const Tokenizer& tokenizer, int64_t vocab_size, const GgufTextEnds& ends) {
  const auto definition = parse_tokenizer_json(tokenizer.to_json(), "tokenizer");
  check(
      vocab_size >= tokenizer.vocab_size() && vocab_size <= INT32_MAX,
      "gguf: the tokenizer has ",
      tokenizer.vocab_size(),
      " tokens, the model ",
      vocab_size);
  std::vector<std::string> tokens;
  for (int64_t id = 0; id < vocab_size; ++id) {
    tokens.push_back("[PAD" + std::to_string(id) + "]");
  }
  std::vector<int32_t> types(tokens.size(), kUnused);
  for (const auto& [token, id] : definition.model.vocabulary) {
    tokens[static_cast<size_t>(id)] = token;
    types[static_cast<size_t>(id)] = kNormal;
  }
  for (const auto& token : definition.added_tokens) {
    tokens[static_cast<size_t>(token.id)] = token.content;
    types[static_cast<size_t>(token.id)] = token.special ? kControl : kUserDefined;
  }
  std::vector<std::string> merges;
  for (const auto& merge : definition.model.merges) {
    merges.push_back(
        tokens[static_cast<size_t>(merge.left)] + " " +
        tokens[static_cast<size_t>(merge.right)]);
  }
  std::vector<std::pair<std::string, GgufValue>> metadata = {
      {"tokenizer.ggml.model", std::string("gpt2")},
      {"tokenizer.ggml.pre", pattern_name(definition)},
      {"tokenizer.ggml.tokens", std::move(tokens)},
      {"tokenizer.ggml.token_type", std::move(types)},
      {"tokenizer.ggml.merges", std::move(merges)},
      {"tokenizer.ggml.add_bos_token", !definition.special_tokens.before.empty()}};
  if (!ends.chat_template.empty()) {
    metadata.emplace_back("tokenizer.chat_template", ends.chat_template);
  }
  if (const auto end = ends.end_of_text ? ends.end_of_text : tokenizer.end_of_text()) {
    metadata.emplace_back("tokenizer.ggml.eos_token_id", static_cast<uint32_t>(*end));
    const auto& before = definition.special_tokens.before;
    const int32_t begin = before.empty() ? *end : before[0];
    metadata.emplace_back("tokenizer.ggml.bos_token_id", static_cast<uint32_t>(begin));
  }
  return metadata;
}

bool normalizes_text(const Tokenizer& tokenizer) {
  return !parse_tokenizer_json(tokenizer.to_json(), "tokenizer").normalizer.empty();
}

} // namespace moe
