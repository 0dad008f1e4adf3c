#include "moe/data/tokenizer/bpe_json_internal.h"

#include <algorithm>
#include <bit>

#include "moe/data/tokenizer/byte_hash.h"
#include "moe/error.h"

namespace moe {
// Where a message shows a value, it is made only when it is needed: files have 100,000s of
// tokens.
namespace {

using namespace json_members;

std::vector<VocabularyEntry> vocabulary_entries(const Json& object) {
  std::vector<VocabularyEntry> vocabulary;
  vocabulary.reserve(object.size());
  for (const auto& [token, value] : object.items()) {
    if (value.is_number_unsigned() && value.get<uint64_t>() <= INT32_MAX) {
      vocabulary.push_back({token, value.get<int32_t>()});
    } else {
      token_id(value, "model.vocab[" + shown(token) + "]"); // throws
    }
  }
  return vocabulary;
}

std::vector<VocabularyEntry> parse_vocabulary(
    const Json& model, std::optional<ModelTables>& tables) {
  const auto& object = object_member(model, "vocab", "model");
  auto vocabulary = tables ? std::move(tables->vocabulary) : vocabulary_entries(object);
  check(!vocabulary.empty(), "model.vocab: no tokens; nothing could be encoded");
  const auto is_before = [](const auto& a, const auto& b) { return a.id < b.id; };
  if (!std::is_sorted(vocabulary.begin(), vocabulary.end(), is_before)) {
    std::sort(vocabulary.begin(), vocabulary.end(), is_before);
  }
  for (size_t i = 1; i < vocabulary.size(); ++i) {
    if (vocabulary[i - 1].id == vocabulary[i].id) {
      fail(
          "model.vocab: ",
          shown(vocabulary[i - 1].token),
          " and ",
          shown(vocabulary[i].token),
          " both have id ",
          vocabulary[i].id);
    }
  }
  return vocabulary;
}

/// The two tokens of a merge: `["a", "b"]`, or `"a b"` in older files.
std::pair<std::string, std::string> merge_parts(const Json& merge, bool is_text, size_t i) {
  if (merge.is_string() != is_text) {
    fail("model.merges[", i, "]: strings and pairs are mixed; found ", shown(merge));
  }
  if (is_text) {
    const auto& text = merge.get_ref<const std::string&>();
    const size_t space = text.find(' ');
    if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) {
      fail(
          "model.merges[",
          i,
          "]: expected two tokens with a space between, found ",
          shown(text));
    }
    return {text.substr(0, space), text.substr(space + 1)};
  }
  if (!merge.is_array() || merge.size() != 2 || !merge[0].is_string() ||
      !merge[1].is_string()) {
    fail("model.merges[", i, "]: expected two tokens, found ", shown(merge));
  }
  return {merge[0].get<std::string>(), merge[1].get<std::string>()};
}

std::vector<std::pair<std::string, std::string>> merge_pairs(const Json& array) {
  std::vector<std::pair<std::string, std::string>> pairs;
  pairs.reserve(array.size());
  const bool is_text = !array.empty() && array[0].is_string();
  for (size_t i = 0; i < array.size(); ++i) {
    pairs.push_back(merge_parts(array[i], is_text, i));
  }
  return pairs;
}

std::vector<Merge> parse_merges(
    const Json& model, const std::optional<ModelTables>& tables, const TokenIndex& ids) {
  const auto& array = array_member(model, "merges", "model");
  const auto& pairs = tables ? tables->merges : merge_pairs(array);
  std::vector<Merge> merges;
  merges.reserve(pairs.size());
  std::string joined;
  for (size_t i = 0; i < pairs.size(); ++i) {
    const auto& [left, right] = pairs[i];
    const auto id_of = [&](const std::string& token) {
      const int32_t* id = ids.find(token);
      if (id == nullptr) {
        fail("model.merges[", i, "]: ", shown(token), " is not in the vocabulary");
      }
      return *id;
    };
    joined.assign(left).append(right);
    merges.push_back({id_of(left), id_of(right), id_of(joined)});
  }
  return merges;
}

/// Older files write "" for an affix that is not there.
void require_no_affix(const Json& model, const char* key) {
  const auto& value = member(model, key);
  check(
      value.is_null() || value == "",
      "model.",
      key,
      ": ",
      shown(value),
      " is not supported, only null");
}

} // namespace

TokenIndex::TokenIndex(const std::vector<VocabularyEntry>& vocabulary)
    : vocabulary_(vocabulary), slots_(std::bit_ceil(vocabulary.size() * 2 + 1)) {
  check(vocabulary.size() < (1u << 30), "model.vocab: ", vocabulary.size(), " are too many");
  for (size_t i = 0; i < vocabulary.size(); ++i) {
    const uint64_t hash = hash_bytes(vocabulary[i].token);
    size_t slot = hash & (slots_.size() - 1);
    const auto tag = static_cast<uint32_t>(hash >> 32);
    for (; slots_[slot].number != 0; slot = (slot + 1) & (slots_.size() - 1)) {
      const auto& token = vocabulary[slots_[slot].number - 1].token;
      if (slots_[slot].tag == tag && token == vocabulary[i].token) {
        fail("model.vocab: ", shown(token), " occurs twice");
      }
    }
    slots_[slot] = {tag, static_cast<uint32_t>(i + 1)};
  }
}

const int32_t* TokenIndex::find(std::string_view token) const {
  const uint64_t hash = hash_bytes(token);
  for (size_t slot = hash & (slots_.size() - 1); slots_[slot].number != 0;
       slot = (slot + 1) & (slots_.size() - 1)) {
    const auto& [tag, number] = slots_[slot];
    if (tag == static_cast<uint32_t>(hash >> 32) && vocabulary_[number - 1].token == token) {
      return &vocabulary_[number - 1].id;
    }
  }
  return nullptr;
}

BpeDefinition parse_bpe_model(TokenizerJson& json) {
  const auto& model = object_member(json.root, "model", "tokenizer.json");
  if (model.contains("type")) {
    const auto& type = string_member(model, "type", "model");
    check(type == "BPE", "model.type: ", shown(type), " is not supported, only \"BPE\"");
  }
  const auto& dropout = member(model, "dropout");
  check(
      dropout.is_null() || (dropout.is_number() && dropout.get<double>() == 0),
      "model.dropout: ",
      shown(dropout),
      " is not supported, only null or 0");
  require_no_affix(model, "continuing_subword_prefix");
  require_no_affix(model, "end_of_word_suffix");

  BpeDefinition definition;
  definition.byte_fallback = bool_member_or(model, "byte_fallback", "model", false);
  definition.fuse_unknown = bool_member_or(model, "fuse_unk", "model", false);
  definition.ignore_merges = bool_member_or(model, "ignore_merges", "model", false);
  definition.vocabulary = parse_vocabulary(model, json.tables);
  const TokenIndex ids(definition.vocabulary);
  definition.merges = parse_merges(model, json.tables, ids);
  if (!member(model, "unk_token").is_null()) {
    const auto& token = string_member(model, "unk_token", "model");
    const int32_t* id = ids.find(token);
    check(id != nullptr, "model.unk_token: ", shown(token), " is not in the vocabulary");
    definition.unknown = *id;
  }
  return definition;
}

} // namespace moe
