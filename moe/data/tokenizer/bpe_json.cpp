#include "moe/data/tokenizer/bpe_json_internal.h"

#include <algorithm>

#include "moe/error.h"

namespace moe {
// Where a message shows a value, it is made only when it is needed: files have 100,000s of
// tokens.
namespace {

using namespace json_members;

std::vector<VocabularyEntry> parse_vocabulary(const Json& model) {
  const auto& object = object_member(model, "vocab", "model");
  check(!object.empty(), "model.vocab: no tokens; nothing could be encoded");
  std::vector<VocabularyEntry> vocabulary;
  vocabulary.reserve(object.size());
  for (const auto& [token, value] : object.items()) {
    if (value.is_number_unsigned() && value.get<uint64_t>() <= INT32_MAX) {
      vocabulary.push_back({token, value.get<int32_t>()});
    } else {
      token_id(value, "model.vocab[" + shown(token) + "]"); // throws
    }
  }
  std::sort(vocabulary.begin(), vocabulary.end(), [](const auto& a, const auto& b) {
    return a.id < b.id;
  });
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

std::vector<Merge> parse_merges(const Json& model, const IdByToken& ids) {
  const auto& array = array_member(model, "merges", "model");
  std::vector<Merge> merges;
  merges.reserve(array.size());
  const bool is_text = !array.empty() && array[0].is_string();
  for (size_t i = 0; i < array.size(); ++i) {
    const auto [left, right] = merge_parts(array[i], is_text, i);
    const auto id_of = [&](const std::string& token) {
      const auto entry = ids.find(token);
      if (entry == ids.end()) {
        fail("model.merges[", i, "]: ", shown(token), " is not in the vocabulary");
      }
      return entry->second;
    };
    merges.push_back({id_of(left), id_of(right), id_of(left + right)});
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

IdByToken index_tokens(const std::vector<VocabularyEntry>& vocabulary) {
  IdByToken ids;
  ids.reserve(vocabulary.size());
  for (const auto& [token, id] : vocabulary) {
    ids.emplace(token, id);
  }
  return ids;
}

BpeDefinition parse_bpe_model(const Json& root) {
  const auto& model = object_member(root, "model", "tokenizer.json");
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
  definition.vocabulary = parse_vocabulary(model);
  const auto ids = index_tokens(definition.vocabulary);
  definition.merges = parse_merges(model, ids);
  if (!member(model, "unk_token").is_null()) {
    const auto& token = string_member(model, "unk_token", "model");
    const auto entry = ids.find(token);
    check(entry != ids.end(), "model.unk_token: ", shown(token), " is not in the vocabulary");
    definition.unknown = entry->second;
  }
  return definition;
}

} // namespace moe
