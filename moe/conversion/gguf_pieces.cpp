#include <algorithm>
#include <set>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "moe/conversion/gguf_pieces_internal.h"
#include "moe/error.h"

namespace moe {
namespace {

constexpr std::string_view kSpace = "\u2581";

using PreTokenizer = PreTokenizerStep::Kind;
using Prepend = PreTokenizerStep::Prepend;
using TokenIds = std::unordered_map<std::string_view, int32_t>;

bool is_space_replacement(const NormalizerStep& step) {
  return step.kind == NormalizerStep::Kind::replace && !step.pattern.is_regex &&
         step.pattern.text == " " && step.content == kSpace;
}

bool is_space_prefix(const NormalizerStep& step) {
  return step.kind == NormalizerStep::Kind::prepend && step.content == kSpace;
}

/// Sets how spaces are treated; false if it is none of the ways that llama.cpp knows.
bool read_spaces(const TokenizerDefinition& definition, GgufPieces& pieces) {
  const auto& normalizer = definition.normalizer;
  const auto& steps = definition.pre_tokenizer;
  if (steps.empty()) {
    pieces.add_space_prefix = normalizer.size() == 2 && is_space_prefix(normalizer[0]);
    return normalizer.size() == (pieces.add_space_prefix ? 2U : 1U) &&
           is_space_replacement(normalizer.back());
  }
  if (!normalizer.empty() || steps.size() != 1 || steps[0].kind != PreTokenizer::metaspace ||
      steps[0].content != kSpace || steps[0].split_words) {
    return false;
  }
  pieces.add_space_prefix = steps[0].prepend != Prepend::never;
  if (pieces.add_space_prefix) {
    pieces.notice =
        steps[0].prepend == Prepend::first
            ? "the tokenizer puts a space before the beginning of a text only, llama.cpp also "
              "behind control tokens, and both before a text that begins with a space"
            : "the tokenizer puts no space before a text that begins with one, llama.cpp does";
  }
  return true;
}

void check_bytes(const BpeDefinition& model, const TokenIds& ids) {
  bool complete = model.byte_fallback;
  for (int byte = 0; byte < 256 && complete; ++byte) {
    constexpr std::string_view kDigits = "0123456789ABCDEF";
    const std::string token{'<', '0', 'x', kDigits[byte / 16], kDigits[byte % 16], '>'};
    complete = ids.contains(token);
  }
  check(complete, "gguf: llama.cpp needs a token <0xNN> for every byte of unknown characters");
}

/// Whether two tokens consist of one character, again and again.
bool are_runs(std::string_view one, std::string_view other) {
  size_t size = 1;
  while (size < one.size() && (static_cast<unsigned char>(one[size]) & 0xC0U) == 0x80U) {
    ++size;
  }
  const auto character = one.substr(0, size);
  const auto is_run = [&](std::string_view token) {
    bool same = token.size() % size == 0;
    for (size_t i = 0; i < token.size() && same; i += size) {
      same = token.substr(i, size) == character;
    }
    return same;
  };
  return is_run(one) && is_run(other);
}

/// Minus the rank of each token among the results of merges. Merges into several tokens that
/// alternate have no such rank, but for runs of a character: SentencePiece gives those equal
/// scores, and both ways they grow from the left.
std::vector<float> scores_of(
    const BpeDefinition& model,
    const std::unordered_map<int32_t, std::string_view>& texts,
    int64_t vocab_size) {
  const auto& merges = model.merges;
  std::unordered_map<int32_t, size_t> last;
  for (size_t i = 0; i < merges.size(); ++i) {
    last[merges[i].result] = i;
  }
  std::vector<float> scores(static_cast<size_t>(vocab_size));
  float rank = 0;
  for (size_t i = 0; i < merges.size();) {
    rank += 1;
    const auto first_text = texts.at(merges[i].result);
    for (size_t end = last[merges[i].result]; i <= end; ++i) {
      const int32_t result = merges[i].result;
      end = std::max(end, last[result]);
      scores[static_cast<size_t>(result)] = -rank;
      check(
          texts.at(result) == first_text || are_runs(first_text, texts.at(result)),
          "gguf: merges into '",
          first_text,
          "' and '",
          texts.at(result),
          "' take turns; llama.cpp has one rank per token");
    }
  }
  return scores;
}

/// llama.cpp merges whatever is a token together.
void check_merges(const TokenizerDefinition& definition, const TokenIds& ids) {
  std::set<std::pair<int32_t, int32_t>> merged;
  for (const auto& merge : definition.model.merges) {
    merged.emplace(merge.left, merge.right);
  }
  std::set<int32_t> added;
  for (const auto& token : definition.added_tokens) {
    added.insert(token.id);
  }
  for (const auto& [token, id] : definition.model.vocabulary) {
    const std::string_view whole = token;
    for (size_t i = 1; i < whole.size() && !added.contains(id); ++i) {
      const auto left = ids.find(whole.substr(0, i));
      const auto right = ids.find(whole.substr(i));
      check(
          left == ids.end() || right == ids.end() ||
              merged.contains({left->second, right->second}),
          "gguf: '",
          whole.substr(0, i),
          "' and '",
          whole.substr(i),
          "' are no merge of the tokenizer; llama.cpp would merge them into '",
          whole,
          "'");
    }
  }
}

} // namespace

GgufPieces gguf_pieces(const TokenizerDefinition& definition, int64_t vocab_size) {
  GgufPieces pieces;
  check(
      read_spaces(definition, pieces) && !definition.model.ignore_merges,
      "gguf: this kind of tokenizer is not supported, only byte-level BPE with the patterns of "
      "GPT-2, GPT-4o, Qwen2, Llama 3 and DeepSeek-V3, without a normaliser other than NFC, and "
      "BPE with byte fallback that writes spaces as U+2581");
  TokenIds ids;
  std::unordered_map<int32_t, std::string_view> texts;
  for (const auto& [token, id] : definition.model.vocabulary) {
    ids.emplace(token, id);
    texts.emplace(id, token);
  }
  check_bytes(definition.model, ids);
  check_merges(definition, ids);
  pieces.scores = scores_of(definition.model, texts, vocab_size);
  return pieces;
}

} // namespace moe
