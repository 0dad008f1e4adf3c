#include "moe/conversion/gguf_tokenizer.h"

#include <algorithm>
#include <optional>
#include <string_view>

#include "moe/conversion/gguf_pieces_internal.h"
#include "moe/data/tokenizer/tokenizer_json.h"
#include "moe/error.h"

namespace moe {
namespace {

/// llama.cpp's kinds of tokens.
constexpr int32_t kNormal = 1;
constexpr int32_t kUnknown = 2;
constexpr int32_t kControl = 3;
constexpr int32_t kUserDefined = 4;
constexpr int32_t kUnused = 5;
constexpr int32_t kByte = 6;

/// Whether texts that are in NFC already stay as they are.
bool keeps_nfc(const TokenizerDefinition& definition) {
  return std::all_of(
      definition.normalizer.begin(), definition.normalizer.end(), [](const auto& step) {
        return step.kind == NormalizerStep::Kind::nfc;
      });
}

/// Cuts by several expressions in turn, as tokenizer.json spells them, and llama.cpp's name.
struct KnownCuts {
  std::vector<std::string_view> expressions;
  std::string_view name;
};

const std::vector<KnownCuts>& known_cuts() {
  static const std::vector<KnownCuts> cuts = {
      {{R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
        R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+)"
        R"([\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}|)"
        R"( ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)"},
       "gpt-4o"},
      {{R"(\p{N}{1,3})",
        "[一-龥぀-ゟ゠-ヿ]+",
        R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^)"
        "\r\n"
        R"(\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[)"
        "\r\n"
        R"(]*|\s*[)"
        "\r\n"
        R"(]+|\s+(?!\S)|\s+)"},
       "deepseek-v3"}};
  return cuts;
}

/// llama.cpp's name of a pre-tokenizer; nothing if it has none.
std::optional<std::string> pattern_of(const TokenizerDefinition& definition) {
  using Kind = PreTokenizerStep::Kind;
  const auto& steps = definition.pre_tokenizer;
  if (steps.empty() && definition.model.merges.empty()) {
    return "gpt-2"; // of single bytes: without merges the pattern makes no difference
  }
  if (steps.size() == 1 && steps[0].kind == Kind::scanner) {
    switch (steps[0].pattern) {
      case Pattern::qwen2:
        return "qwen2";
      case Pattern::llama3:
        return "llama-bpe";
      default:
        return "gpt-2";
    }
  }
  for (const auto& [expressions, name] : known_cuts()) {
    const auto is_same = [](const PreTokenizerStep& step, std::string_view expression) {
      return step.kind == Kind::split && step.search.is_regex && !step.invert &&
             step.behavior == SplitBehavior::isolated && step.search.text == expression;
    };
    if (std::equal(
            steps.begin(), steps.end(), expressions.begin(), expressions.end(), is_same)) {
      return std::string(name);
    }
  }
  return std::nullopt;
}

/// What llama.cpp calls the pattern.
std::string pattern_name(const TokenizerDefinition& definition) {
  const auto name = pattern_of(definition);
  check(
      keeps_nfc(definition) && name.has_value(),
      "gguf: this kind of tokenizer is not supported, only byte-level BPE with the patterns of "
      "GPT-2, GPT-4o, Qwen2, Llama 3 and DeepSeek-V3, without a normaliser other than NFC, and "
      "BPE with byte fallback that writes spaces as U+2581");
  return *name;
}

struct Tokens {
  std::vector<std::string> texts;
  std::vector<int32_t> types;
};

Tokens tokens_of(const TokenizerDefinition& definition, int64_t vocab_size) {
  Tokens tokens;
  for (int64_t id = 0; id < vocab_size; ++id) {
    tokens.texts.push_back("[PAD" + std::to_string(id) + "]");
  }
  tokens.types.assign(tokens.texts.size(), kUnused);
  const auto set = [&](int32_t id, const std::string& text, int32_t type) {
    tokens.texts[static_cast<size_t>(id)] = text;
    tokens.types[static_cast<size_t>(id)] = type;
  };
  const auto& model = definition.model;
  for (const auto& [token, id] : model.vocabulary) {
    const bool is_byte = model.byte_fallback && token.size() == 6 && token.starts_with("<0x");
    set(id, token, is_byte ? kByte : kNormal);
  }
  for (const auto& token : definition.added_tokens) {
    set(token.id, token.content, token.special ? kControl : kUserDefined);
  }
  if (model.unknown) {
    tokens.types[static_cast<size_t>(*model.unknown)] = kUnknown;
  }
  return tokens;
}

GgufMetadata byte_level_metadata(
    const TokenizerDefinition& definition, const std::vector<std::string>& tokens) {
  std::vector<std::string> merges;
  for (const auto& merge : definition.model.merges) {
    merges.push_back(
        tokens[static_cast<size_t>(merge.left)] + " " +
        tokens[static_cast<size_t>(merge.right)]);
  }
  return {
      {"tokenizer.ggml.model", std::string("gpt2")},
      {"tokenizer.ggml.pre", pattern_name(definition)},
      {"tokenizer.ggml.merges", std::move(merges)}};
}

GgufMetadata pieces_metadata(const TokenizerDefinition& definition, int64_t vocab_size) {
  auto pieces = gguf_pieces(definition, vocab_size);
  GgufMetadata metadata = {
      {"tokenizer.ggml.model", std::string("llama")},
      {"tokenizer.ggml.pre", std::string("default")},
      {"tokenizer.ggml.scores", std::move(pieces.scores)},
      {"tokenizer.ggml.add_space_prefix", pieces.add_space_prefix}};
  if (const auto unknown = definition.model.unknown) {
    metadata.emplace_back("tokenizer.ggml.unknown_token_id", static_cast<uint32_t>(*unknown));
  }
  return metadata;
}

} // namespace

GgufMetadata gguf_tokenizer(
    const Tokenizer& tokenizer, int64_t vocab_size, const GgufTextEnds& ends) {
  const auto definition = parse_tokenizer_json(tokenizer.to_json(), "tokenizer");
  check(
      vocab_size >= tokenizer.vocab_size() && vocab_size <= INT32_MAX,
      "gguf: the tokenizer has ",
      tokenizer.vocab_size(),
      " tokens, the model ",
      vocab_size);
  auto tokens = tokens_of(definition, vocab_size);
  auto metadata = definition.byte_level ? byte_level_metadata(definition, tokens.texts)
                                        : pieces_metadata(definition, vocab_size);
  const auto& before = definition.special_tokens.before;
  metadata.emplace_back("tokenizer.ggml.tokens", std::move(tokens.texts));
  metadata.emplace_back("tokenizer.ggml.token_type", std::move(tokens.types));
  metadata.emplace_back("tokenizer.ggml.add_bos_token", !before.empty());
  if (!ends.chat_template.empty()) {
    metadata.emplace_back("tokenizer.chat_template", ends.chat_template);
  }
  if (const auto end = ends.end_of_text ? ends.end_of_text : tokenizer.end_of_text()) {
    metadata.emplace_back("tokenizer.ggml.eos_token_id", static_cast<uint32_t>(*end));
    const int32_t begin = before.empty() ? *end : before[0];
    metadata.emplace_back("tokenizer.ggml.bos_token_id", static_cast<uint32_t>(begin));
  }
  return metadata;
}

std::string gguf_tokenizer_notice(const Tokenizer& tokenizer) {
  const auto definition = parse_tokenizer_json(tokenizer.to_json(), "tokenizer");
  if (!definition.byte_level) {
    return gguf_pieces(definition, tokenizer.vocab_size()).notice;
  }
  return definition.normalizer.empty()
             ? ""
             : "the tokenizer brings text into NFC, llama.cpp does not: text that is not in it "
               "already is cut differently there";
}

} // namespace moe
