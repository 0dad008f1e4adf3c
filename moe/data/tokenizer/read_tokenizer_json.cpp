#include "moe/data/tokenizer/tokenizer_json.h"

#include <algorithm>
#include <unordered_set>

#include "moe/data/tokenizer/bpe_json_internal.h"
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

/// The parts of a component, where `Sequence`s in `Sequence`s count as one list.
void flatten(
    const Json& component,
    const char* list,
    const std::string& where,
    std::vector<const Json*>& parts) {
  if (string_member(component, "type", where) != "Sequence") {
    parts.push_back(&component);
    return;
  }
  for (const auto& part : array_member(component, list, where)) {
    flatten(part, list, where + "." + list, parts);
  }
}

std::vector<const Json*> parts_of(const Json& root, const char* key, const char* list) {
  std::vector<const Json*> parts;
  const auto& component = member(root, key);
  if (!component.is_null()) {
    flatten(component, list, key, parts);
  }
  return parts;
}

[[noreturn]] void refuse(
    const std::string& where, const Json& component, const char* supported) {
  fail(
      where,
      ": ",
      shown(string_member(component, "type", where)),
      " is not supported here, only ",
      supported);
}

Pattern parse_split(const Json& split) {
  const std::string where = "pre_tokenizer.Split";
  const auto& behavior = string_member(split, "behavior", where);
  check(
      behavior == "Isolated",
      where,
      ".behavior: ",
      shown(behavior),
      " is not supported, only \"Isolated\"");
  check(!bool_member(split, "invert", where), where, ".invert: true is not supported");
  const auto& object = object_member(split, "pattern", where);
  const auto& regex = string_member(object, "Regex", where + ".pattern");
  const auto pattern = find_pattern(regex);
  check(
      pattern.has_value(),
      where,
      ".pattern: ",
      shown(regex),
      " is none of the supported patterns (those of GPT-2, Qwen2 and Llama 3)");
  return *pattern;
}

void parse_pre_tokenizer(const Json& root, TokenizerDefinition& definition) {
  const std::string where = "pre_tokenizer";
  const auto parts = parts_of(root, "pre_tokenizer", "pretokenizers");
  for (size_t i = 0; i < parts.size(); ++i) {
    const auto& part = *parts[i];
    const auto& type = string_member(part, "type", where);
    const bool is_last = i + 1 == parts.size();
    if (type == "ByteLevel" && is_last) {
      const bool use_regex = bool_member_or(part, "use_regex", where + ".ByteLevel", true);
      definition.add_prefix_space = bool_member(part, "add_prefix_space", where + ".ByteLevel");
      check(
          i == 0 || (!use_regex && !definition.add_prefix_space),
          where,
          ".ByteLevel: after a Split only use_regex false and add_prefix_space false are "
          "supported");
      if (use_regex) {
        definition.pattern = Pattern::gpt2;
      }
      return;
    }
    if (type != "Split" || i > 0) {
      refuse(where, part, "ByteLevel, or one Split before it");
    }
    definition.pattern = parse_split(part);
  }
  check(
      parts.empty() && member(root, "pre_tokenizer").is_null(),
      where,
      ": does not end with ByteLevel; only that, or null, is supported");
  definition.byte_level = false;
}

void parse_decoder(const Json& root, TokenizerDefinition& definition) {
  const auto parts = parts_of(root, "decoder", "decoders");
  const char* wanted = definition.byte_level ? "ByteLevel" : "Fuse";
  check(
      parts.size() == 1,
      "decoder: expected ",
      wanted,
      ", found ",
      parts.size(),
      " decoders; others are not supported");
  if (string_member(*parts[0], "type", "decoder") != wanted) {
    refuse("decoder", *parts[0], wanted);
  }
}

AddedToken parse_added_token(const Json& value, const std::string& where) {
  AddedToken token;
  token.content = string_member(value, "content", where);
  check(!token.content.empty(), where, ".content: is empty");
  check(value.contains("id"), where, ": \"id\" is missing");
  token.id = token_id(value["id"], where + ".id");
  token.special = bool_member(value, "special", where);
  token.normalized = bool_member(value, "normalized", where);
  for (const char* flag : {"single_word", "lstrip", "rstrip"}) {
    if (bool_member(value, flag, where)) {
      fail(where, " (", shown(token.content), "): ", flag, " true is not supported");
    }
  }
  return token;
}

/// Added tokens whose ids are those that Hugging Face's reader gives them: it numbers tokens
/// that are not in the vocabulary from the vocabulary's size on, whatever the file says.
std::vector<AddedToken> parse_added_tokens(
    const Json& root, const std::vector<VocabularyEntry>& vocabulary) {
  std::vector<AddedToken> tokens;
  if (!root.contains("added_tokens")) {
    return tokens;
  }
  const auto ids = index_tokens(vocabulary);
  std::unordered_set<int32_t> vocabulary_ids;
  for (const auto& entry : vocabulary) {
    vocabulary_ids.insert(entry.id);
  }
  std::unordered_set<std::string> seen;
  int64_t next_id = static_cast<int64_t>(vocabulary.size());
  size_t number = 0;
  for (const auto& value : array_member(root, "added_tokens", "tokenizer.json")) {
    const std::string where = "added_tokens[" + std::to_string(number++) + "]";
    auto token = parse_added_token(value, where);
    if (!seen.insert(token.content).second) {
      fail(where, ": ", shown(token.content), " is there already");
    }
    const auto in_vocabulary = ids.find(token.content);
    const bool is_new = in_vocabulary == ids.end();
    const int64_t expected = is_new ? next_id : in_vocabulary->second;
    if (token.id != expected) {
      fail(
          where,
          ": ",
          shown(token.content),
          " has id ",
          token.id,
          "; expected ",
          expected,
          is_new ? ", the next after model.vocab and earlier added tokens"
                 : " as in model.vocab");
    }
    check(
        !is_new || vocabulary_ids.count(token.id) == 0,
        where,
        ": id ",
        token.id,
        " belongs to another token in model.vocab");
    next_id = std::max(next_id, expected + 1);
    tokens.push_back(std::move(token));
  }
  std::sort(
      tokens.begin(), tokens.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  return tokens;
}

/// Every token that a template inserts must be defined there and exist.
void check_template(const Json& processor, const std::unordered_set<int32_t>& known) {
  const std::string where = "post_processor.TemplateProcessing";
  const auto& special = object_member(processor, "special_tokens", where);
  for (const auto& [name, token] : special.items()) {
    const auto& ids = array_member(token, "ids", where + ".special_tokens");
    check(!ids.empty(), where, ".special_tokens[", shown(name), "]: has no ids");
    for (const auto& id : ids) {
      check(
          known.count(token_id(id, where + ".special_tokens.ids")) > 0,
          where,
          ".special_tokens[",
          shown(name),
          "]: no token has id ",
          shown(id));
    }
  }
  for (const char* list : {"single", "pair"}) {
    for (const auto& piece : array_member(processor, list, where)) {
      check(piece.is_object(), where, ".", list, ": expected objects, found ", shown(piece));
      if (!piece.contains("SpecialToken")) {
        string_member(object_member(piece, "Sequence", where), "id", where + ".Sequence");
        continue;
      }
      const auto& name = string_member(piece["SpecialToken"], "id", where + ".SpecialToken");
      check(special.contains(name), where, ": ", shown(name), " is not in special_tokens");
    }
  }
}

std::string parse_post_processor(const Json& root, const TokenizerDefinition& definition) {
  std::unordered_set<int32_t> known;
  for (const auto& entry : definition.model.vocabulary) {
    known.insert(entry.id);
  }
  for (const auto& token : definition.added_tokens) {
    known.insert(token.id);
  }
  for (const Json* part : parts_of(root, "post_processor", "processors")) {
    const auto& type = string_member(*part, "type", "post_processor");
    if (type == "TemplateProcessing") {
      check_template(*part, known);
    } else if (type != "ByteLevel") {
      refuse("post_processor", *part, "ByteLevel and TemplateProcessing");
    }
  }
  return member(root, "post_processor").dump();
}

TokenizerDefinition read_definition(const Json& root) {
  check(root.is_object(), "expected a JSON object, found ", shown(root));
  const auto& version = member(root, "version");
  check(
      version.is_null() || version == "1.0",
      "version: ",
      shown(version),
      " is not supported, only \"1.0\"");
  require_null(root, "truncation");
  require_null(root, "padding");
  const auto normalizers = parts_of(root, "normalizer", "normalizers");
  if (!normalizers.empty()) {
    refuse("normalizer", *normalizers[0], "null");
  }
  TokenizerDefinition definition;
  definition.model = parse_bpe_model(root);
  definition.added_tokens = parse_added_tokens(root, definition.model.vocabulary);
  parse_pre_tokenizer(root, definition);
  parse_decoder(root, definition);
  definition.post_processor = parse_post_processor(root, definition);
  return definition;
}

} // namespace

TokenizerDefinition parse_tokenizer_json(std::string_view text, const std::string& name) {
  const Json root = parse_json(text, name, {.depth = 100});
  try {
    return read_definition(root);
  } catch (const Error& error) {
    fail(name, ": ", error.what());
  }
}

} // namespace moe
