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
      ", \"single_word\": ",
      json_bool(token.single_word),
      ", \"lstrip\": ",
      json_bool(token.lstrip),
      ", \"rstrip\": ",
      json_bool(token.rstrip),
      ", \"normalized\": ",
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
      ",\n    \"byte_fallback\": ",
      json_bool(model.byte_fallback),
      ",\n    \"ignore_merges\": ",
      json_bool(model.ignore_merges),
      ",\n    \"vocab\": {",
      format_lines(model.vocabulary, "      ", format_entry),
      "\n    },\n    \"merges\": [",
      format_lines(model.merges, "      ", format_merge),
      "\n    ]\n  }");
}

} // namespace

std::string format_standard_pre_tokenizer(const TokenizerDefinition& definition) {
  const auto& steps = definition.pre_tokenizer;
  if (!definition.byte_level) {
    return steps.empty() ? "null" : "";
  }
  const bool is_scanner = steps.size() == 1 && steps[0].kind == PreTokenizerStep::Kind::scanner;
  if (!steps.empty() && !is_scanner) {
    return "";
  }
  const auto pattern = is_scanner ? steps[0].pattern : Pattern::none;
  if (pattern == Pattern::none || pattern == Pattern::gpt2) {
    return format_byte_level(/*add_prefix_space=*/false, pattern == Pattern::gpt2);
  }
  return concatenate(
      "{\"type\": \"Sequence\", \"pretokenizers\": [\n"
      "    {\"type\": \"Split\", \"pattern\": {\"Regex\": ",
      json_string(pattern_regex(pattern)),
      "}, \"behavior\": \"Isolated\", \"invert\": false},\n    ",
      format_byte_level(/*add_prefix_space=*/false, /*use_regex=*/false),
      "]}");
}

std::string format_standard_decoder(const TokenizerDefinition& definition) {
  if (definition.byte_level) {
    return format_byte_level(/*add_prefix_space=*/true, /*use_regex=*/true);
  }
  const auto& steps = definition.decoder;
  const bool is_fuse = steps.size() == 1 && steps[0].kind == DecoderStep::Kind::fuse;
  return is_fuse ? R"({"type": "Fuse"})" : "";
}

std::string format_tokenizer_json(const TokenizerDefinition& definition) {
  const auto& pre_tokenizer = definition.pre_tokenizer_json;
  const auto& decoder = definition.decoder_json;
  return concatenate(
      "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null",
      ",\n  \"added_tokens\": [",
      format_lines(definition.added_tokens, "    ", format_added_token),
      "\n  ],\n  \"normalizer\": ",
      definition.normalizer_json,
      ",\n  \"pre_tokenizer\": ",
      pre_tokenizer.empty() ? format_standard_pre_tokenizer(definition) : pre_tokenizer,
      ",\n  \"post_processor\": ",
      definition.post_processor_json,
      ",\n  \"decoder\": ",
      decoder.empty() ? format_standard_decoder(definition) : decoder,
      ",\n  \"model\": ",
      format_model(definition.model),
      "\n}\n");
}

} // namespace moe
