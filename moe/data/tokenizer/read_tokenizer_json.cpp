#include "moe/data/tokenizer/tokenizer_json.h"

#include <algorithm>
#include <map>
#include <unordered_set>

#include "moe/data/tokenizer/bpe_json_internal.h"
#include "moe/data/tokenizer/component_json_internal.h"
#include "moe/data/tokenizer/json_members_internal.h"
#include "moe/error.h"

namespace moe {
// Where a message shows a value, it is made only when it is needed: files have 100,000s of
// tokens.
namespace {

using namespace json_members;

void require_null(const Json& root, const char* key) {
  const auto& value = member(root, key);
  check(value.is_null(), key, ": ", shown(value), " is not supported, only null");
}

AddedToken parse_added_token(const Json& value, const std::string& where) {
  AddedToken token;
  token.content = string_member(value, "content", where);
  check(!token.content.empty(), where, ".content: is empty");
  check(value.contains("id"), where, ": \"id\" is missing");
  token.id = token_id(value["id"], where + ".id");
  token.special = bool_member(value, "special", where);
  token.normalized = bool_member(value, "normalized", where);
  token.single_word = bool_member(value, "single_word", where);
  token.lstrip = bool_member(value, "lstrip", where);
  token.rstrip = bool_member(value, "rstrip", where);
  return token;
}

/// Whether one of `entries`, with ascending ids, has this one.
template <class Entry>
bool has_id(const std::vector<Entry>& entries, int32_t id) {
  const auto found = std::lower_bound(
      entries.begin(), entries.end(), id, [](const Entry& entry, int32_t wanted) {
        return entry.id < wanted;
      });
  return found != entries.end() && found->id == id;
}

/// Added tokens with the ids that Hugging Face's reader gives them: it numbers those that are
/// not in the vocabulary from the vocabulary's size on, whatever the file says. The file may
/// differ where it counts a hole among the ids or a token of the vocabulary; an id that another
/// token has, or beyond all tokens, is an error.
std::vector<AddedToken> parse_added_tokens(
    const Json& root, const std::vector<VocabularyEntry>& vocabulary) {
  std::vector<AddedToken> tokens;
  if (!root.contains("added_tokens")) {
    return tokens;
  }
  const TokenIndex ids(vocabulary);
  const auto& values = array_member(root, "added_tokens", "tokenizer.json");
  const auto num_tokens = static_cast<int64_t>(vocabulary.size() + values.size());
  std::unordered_set<std::string> seen;
  std::unordered_set<int32_t> seen_ids;
  auto next_id = static_cast<int64_t>(vocabulary.size());
  size_t number = 0;
  for (const auto& value : values) {
    const std::string where = "added_tokens[" + std::to_string(number++) + "]";
    auto token = parse_added_token(value, where);
    if (!seen.insert(token.content).second) {
      fail(where, ": ", shown(token.content), " is there already");
    }
    const int32_t* in_vocabulary = ids.find(token.content);
    const bool is_new = in_vocabulary == nullptr;
    const int64_t id = is_new ? next_id : *in_vocabulary;
    const bool is_free = seen_ids.insert(token.id).second && !has_id(vocabulary, token.id);
    if (token.id != id && (!is_free || token.id >= num_tokens)) {
      fail(
          where,
          ": ",
          shown(token.content),
          " has id ",
          token.id,
          "; expected ",
          id,
          is_new ? ", the next after model.vocab and earlier added tokens"
                 : " as in model.vocab");
    }
    check(
        !is_new || (id <= INT32_MAX && !has_id(vocabulary, static_cast<int32_t>(id))),
        where,
        ": id ",
        id,
        " belongs to another token in model.vocab");
    next_id = std::max(next_id, id + 1);
    token.id = static_cast<int32_t>(id);
    tokens.push_back(std::move(token));
  }
  std::sort(
      tokens.begin(), tokens.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  return tokens;
}

/// The ids of each special token of a template; all of them must exist.
std::map<std::string, std::vector<int32_t>> template_ids(
    const Json& processor, const TokenizerDefinition& definition) {
  const std::string where = "post_processor.TemplateProcessing";
  std::map<std::string, std::vector<int32_t>> result;
  for (const auto& [name, token] : object_member(processor, "special_tokens", where).items()) {
    const auto& ids = array_member(token, "ids", where + ".special_tokens");
    check(!ids.empty(), where, ".special_tokens[", shown(name), "]: has no ids");
    for (const auto& value : ids) {
      const auto id = token_id(value, where + ".special_tokens.ids");
      check(
          has_id(definition.model.vocabulary, id) || has_id(definition.added_tokens, id),
          where,
          ".special_tokens[",
          shown(name),
          "]: no token has id ",
          id);
      result[name].push_back(id);
    }
  }
  return result;
}

/// What a template puts around one text. Every name that it uses must be defined there.
TemplateTokens parse_template(const Json& processor, const TokenizerDefinition& definition) {
  const std::string where = "post_processor.TemplateProcessing";
  const auto ids = template_ids(processor, definition);
  TemplateTokens tokens;
  for (const char* list : {"single", "pair"}) {
    const bool is_single = list == std::string_view("single");
    int sequences = 0;
    for (const auto& piece : array_member(processor, list, where)) {
      check(piece.is_object(), where, ".", list, ": expected objects, found ", shown(piece));
      if (!piece.contains("SpecialToken")) {
        string_member(object_member(piece, "Sequence", where), "id", where + ".Sequence");
        ++sequences;
        continue;
      }
      const auto& name = string_member(piece["SpecialToken"], "id", where + ".SpecialToken");
      const auto entry = ids.find(name);
      check(entry != ids.end(), where, ": ", shown(name), " is not in special_tokens");
      if (is_single) {
        auto& side = sequences == 0 ? tokens.before : tokens.after;
        side.insert(side.end(), entry->second.begin(), entry->second.end());
      }
    }
    check(!is_single || sequences == 1, where, ".single: expected one text, found ", sequences);
  }
  return tokens;
}

void parse_post_processor(const Json& root, TokenizerDefinition& definition) {
  auto& [before, after] = definition.special_tokens;
  for (const Json* part : component_parts(root, "post_processor", "processors")) {
    const auto& type = string_member(*part, "type", "post_processor");
    if (type == "TemplateProcessing") {
      const auto tokens = parse_template(*part, definition);
      before.insert(before.begin(), tokens.before.begin(), tokens.before.end());
      after.insert(after.end(), tokens.after.begin(), tokens.after.end());
    } else if (type != "ByteLevel") {
      refuse_component("post_processor", *part, "ByteLevel and TemplateProcessing");
    }
  }
  definition.post_processor_json = member(root, "post_processor").dump();
}

/// Forgets the JSON of components that are written the same from their steps.
void forget_standard_json(TokenizerDefinition& definition) {
  const auto forget = [](std::string& json, const std::string& standard) {
    if (!standard.empty() && Json::parse(json) == Json::parse(standard)) {
      json.clear();
    }
  };
  forget(definition.pre_tokenizer_json, format_standard_pre_tokenizer(definition));
  forget(definition.decoder_json, format_standard_decoder(definition));
}

TokenizerDefinition read_definition(TokenizerJson& json) {
  const Json& root = json.root;
  check(root.is_object(), "expected a JSON object, found ", shown(root));
  const auto& version = member(root, "version");
  check(
      version.is_null() || version == "1.0",
      "version: ",
      shown(version),
      " is not supported, only \"1.0\"");
  require_null(root, "truncation");
  require_null(root, "padding");
  TokenizerDefinition definition;
  definition.model = parse_bpe_model(json);
  definition.added_tokens = parse_added_tokens(root, definition.model.vocabulary);
  parse_normalizer(root, definition);
  parse_pre_tokenizer(root, definition);
  parse_decoder(root, definition);
  parse_post_processor(root, definition);
  forget_standard_json(definition);
  return definition;
}

} // namespace

TokenizerDefinition parse_tokenizer_json(std::string_view text, const std::string& name) {
  auto json = parse_tokenizer_tables(text, name);
  try {
    return read_definition(json);
  } catch (const Error& error) {
    fail(name, ": ", error.what());
  }
}

} // namespace moe
