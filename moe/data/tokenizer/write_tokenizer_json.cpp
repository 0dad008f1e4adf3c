#include <string_view>
#include <unordered_map>

#include "moe/data/tokenizer/tokenizer_json.h"
#include "moe/files/json_internal.h"

namespace moe {
namespace {

std::string json_string(std::string_view text) {
  return Json(text).dump();
}

const char* json_bool(bool value) {
  return value ? "true" : "false";
}

template <class... Parts>
std::string concatenate(const Parts&... parts) {
  std::string text;
  ((text += parts), ...);
  return text;
}

/// `items`, one a line.
template <class Items, class Format>
std::string format_lines(const Items& items, const char* indent, Format&& format) {
  std::string text;
  const char* separator = "\n";
  for (const auto& item : items) {
    text += separator;
    text += indent;
    text += format(item);
    separator = ",\n";
  }
  return text;
}

std::string format_added_token(const AddedToken& token) {
  return concatenate(
      "{\"id\": ",
      std::to_string(token.id),
      ", \"content\": ",
      json_string(token.content),
      R"(, "single_word": false, "lstrip": false, "rstrip": false, "normalized": )",
      json_bool(token.normalized),
      ", \"special\": ",
      json_bool(token.special),
      "}");
}

std::string format_byte_level(bool add_prefix_space, bool use_regex) {
  return concatenate(
      R"({"type": "ByteLevel", "add_prefix_space": )",
      json_bool(add_prefix_space),
      R"(, "trim_offsets": true, "use_regex": )",
      json_bool(use_regex),
      "}");
}

std::string format_pre_tokenizer(const TokenizerDefinition& definition) {
  if (!definition.byte_level) {
    return "null";
  }
  const auto pattern = definition.pattern;
  if (pattern == Pattern::none || pattern == Pattern::gpt2) {
    return format_byte_level(definition.add_prefix_space, pattern == Pattern::gpt2);
  }
  return concatenate(
      "{\"type\": \"Sequence\", \"pretokenizers\": [\n"
      "    {\"type\": \"Split\", \"pattern\": {\"Regex\": ",
      json_string(pattern_regex(pattern)),
      "}, \"behavior\": \"Isolated\", \"invert\": false},\n    ",
      format_byte_level(/*add_prefix_space=*/false, /*use_regex=*/false),
      "]}");
}

std::string format_model(const BpeDefinition& model) {
  std::unordered_map<int32_t, std::string_view> tokens;
  bool has_spaces = false;
  for (const auto& [token, id] : model.vocabulary) {
    tokens.emplace(id, token);
    has_spaces = has_spaces || token.find(' ') != std::string::npos;
  }
  const auto format_entry = [](const VocabularyEntry& entry) {
    return concatenate(json_string(entry.token), ": ", std::to_string(entry.id));
  };
  // Merges as "a b" are what readers of any age know, but need tokens without spaces.
  const auto format_merge = [&](const Merge& merge) {
    const auto left = tokens.at(merge.left);
    const auto right = tokens.at(merge.right);
    return has_spaces ? concatenate("[", json_string(left), ", ", json_string(right), "]")
                      : json_string(concatenate(left, " ", right));
  };
  return concatenate(
      "{\n    \"type\": \"BPE\",\n    \"dropout\": null,\n    \"unk_token\": ",
      model.unknown ? json_string(tokens.at(*model.unknown)) : "null",
      ",\n    \"continuing_subword_prefix\": null,\n    \"end_of_word_suffix\": null",
      ",\n    \"fuse_unk\": ",
      json_bool(model.fuse_unknown),
      ",\n    \"byte_fallback\": false,\n    \"ignore_merges\": ",
      json_bool(model.ignore_merges),
      ",\n    \"vocab\": {",
      format_lines(model.vocabulary, "      ", format_entry),
      "\n    },\n    \"merges\": [",
      format_lines(model.merges, "      ", format_merge),
      "\n    ]\n  }");
}

} // namespace

std::string format_tokenizer_json(const TokenizerDefinition& definition) {
  return concatenate(
      "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null",
      ",\n  \"added_tokens\": [",
      format_lines(definition.added_tokens, "    ", format_added_token),
      "\n  ],\n  \"normalizer\": null,\n  \"pre_tokenizer\": ",
      format_pre_tokenizer(definition),
      ",\n  \"post_processor\": ",
      definition.post_processor,
      ",\n  \"decoder\": ",
      definition.byte_level ? format_byte_level(/*add_prefix_space=*/true, /*use_regex=*/true)
                            : R"({"type": "Fuse"})",
      ",\n  \"model\": ",
      format_model(definition.model),
      "\n}\n");
}

} // namespace moe
