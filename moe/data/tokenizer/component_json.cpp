#include "moe/data/tokenizer/component_json_internal.h"

#include <utility>

#include "moe/data/utf8.h"
#include "moe/error.h"

namespace moe {
namespace {

using namespace json_members;

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

/// `{"String": text}` or `{"Regex": expression}`.
TextPattern parse_pattern(const Json& component, const std::string& where) {
  const auto& object = object_member(component, "pattern", where);
  const bool is_regex = object.contains("Regex");
  auto text = string_member(object, is_regex ? "Regex" : "String", where + ".pattern");
  check(!text.empty(), where, ".pattern: is empty");
  return {std::move(text), is_regex};
}

/// A member that must be one character.
std::string character_member(const Json& component, const char* key, const std::string& where) {
  const auto& text = string_member(component, key, where);
  const bool is_one = !text.empty() && next_utf8(text).length == text.size();
  check(is_one, where, ".", key, ": expected one character, found ", shown(text));
  return text;
}

int64_t count_member(const Json& component, const char* key, const std::string& where) {
  const auto& value = member(component, key);
  const bool is_count = value.is_number_unsigned() && value.get<uint64_t>() <= INT32_MAX;
  check(is_count, where, ".", key, ": expected a count, found ", shown(value));
  return value.get<int64_t>();
}

SplitBehavior parse_behavior(const Json& component, const std::string& where) {
  const auto& name = string_member(component, "behavior", where);
  const std::pair<const char*, SplitBehavior> kBehaviors[] = {
      {"Isolated", SplitBehavior::isolated},
      {"Removed", SplitBehavior::removed},
      {"MergedWithPrevious", SplitBehavior::merged_with_previous},
      {"MergedWithNext", SplitBehavior::merged_with_next},
      {"Contiguous", SplitBehavior::contiguous}};
  for (const auto& [known, behavior] : kBehaviors) {
    if (name == known) {
      return behavior;
    }
  }
  fail(where, ".behavior: ", shown(name), " is not supported");
}

PreTokenizerStep::Prepend parse_prepend(const Json& component, const std::string& where) {
  using Prepend = PreTokenizerStep::Prepend;
  if (!component.contains("prepend_scheme")) { // older files
    const bool prepends = bool_member_or(component, "add_prefix_space", where, true);
    return prepends ? Prepend::always : Prepend::never;
  }
  const auto& name = string_member(component, "prepend_scheme", where);
  check(
      name == "always" || name == "first" || name == "never",
      where,
      ".prepend_scheme: ",
      shown(name),
      " is not supported, only \"always\", \"first\" and \"never\"");
  return name == "always" ? Prepend::always : name == "first" ? Prepend::first : Prepend::never;
}

PreTokenizerStep scanner_step(Pattern pattern) {
  PreTokenizerStep step;
  step.pattern = pattern;
  return step;
}

PreTokenizerStep parse_split(const Json& split) {
  const std::string where = "pre_tokenizer.Split";
  PreTokenizerStep step;
  step.kind = PreTokenizerStep::Kind::split;
  step.behavior = parse_behavior(split, where);
  step.invert = bool_member(split, "invert", where);
  step.search = parse_pattern(split, where);
  const auto known = step.search.is_regex ? find_pattern(step.search.text) : std::nullopt;
  // The known patterns leave nothing out, so to remove the rest is the same.
  const bool keeps_matches = (step.behavior == SplitBehavior::isolated && !step.invert) ||
                             (step.behavior == SplitBehavior::removed && step.invert);
  return known && keeps_matches ? scanner_step(*known) : step;
}

PreTokenizerStep parse_metaspace(const Json& part) {
  const std::string where = "pre_tokenizer.Metaspace";
  PreTokenizerStep step;
  step.kind = PreTokenizerStep::Kind::metaspace;
  step.content = character_member(part, "replacement", where);
  step.prepend = parse_prepend(part, where);
  step.split_words = bool_member_or(part, "split", where, true);
  return step;
}

/// ByteLevel as steps; that the pieces become bytes is not one of them.
void add_byte_level(const Json& part, std::vector<PreTokenizerStep>& steps) {
  const std::string where = "pre_tokenizer.ByteLevel";
  if (bool_member(part, "add_prefix_space", where)) {
    steps.emplace_back().kind = PreTokenizerStep::Kind::prefix_space;
  }
  if (bool_member_or(part, "use_regex", where, true)) {
    steps.push_back(scanner_step(Pattern::gpt2));
  }
}

PreTokenizerStep parse_pre_tokenizer_part(const Json& part) {
  using Kind = PreTokenizerStep::Kind;
  const std::string where = "pre_tokenizer";
  const auto& type = string_member(part, "type", where);
  if (type == "Split") {
    return parse_split(part);
  }
  if (type == "Metaspace") {
    return parse_metaspace(part);
  }
  PreTokenizerStep step;
  if (type == "Digits") {
    step.kind = Kind::digits;
    const bool is_individual = bool_member(part, "individual_digits", where + ".Digits");
    step.behavior = is_individual ? SplitBehavior::isolated : SplitBehavior::contiguous;
  } else if (type == "Punctuation") {
    step.kind = Kind::punctuation;
    step.behavior = part.contains("behavior") ? parse_behavior(part, where + ".Punctuation")
                                              : SplitBehavior::isolated;
  } else if (type == "Whitespace") {
    step.kind = Kind::whitespace;
  } else if (type == "WhitespaceSplit") {
    step.kind = Kind::whitespace_split;
    step.behavior = SplitBehavior::removed;
  } else {
    refuse_component(
        where,
        part,
        "Split, Digits, Punctuation, Whitespace, WhitespaceSplit, Metaspace and, at the end, "
        "ByteLevel");
  }
  return step;
}

NormalizerStep parse_normalizer_part(const Json& part) {
  using Kind = NormalizerStep::Kind;
  const auto& type = string_member(part, "type", "normalizer");
  const std::string where = "normalizer." + type;
  NormalizerStep step;
  for (const auto& [name, kind] :
       {std::pair("NFC", Kind::nfc),
        {"NFD", Kind::nfd},
        {"NFKC", Kind::nfkc},
        {"NFKD", Kind::nfkd}}) {
    if (type == name) {
      step.kind = kind;
      return step;
    }
  }
  if (type == "Prepend") {
    step.kind = Kind::prepend;
    step.content = string_member(part, "prepend", where);
  } else if (type == "Replace") {
    step.kind = Kind::replace;
    step.pattern = parse_pattern(part, where);
    step.content = string_member(part, "content", where);
  } else if (type == "Strip") {
    step.kind = Kind::strip;
    step.left = bool_member(part, "strip_left", where);
    step.right = bool_member(part, "strip_right", where);
  } else {
    refuse_component("normalizer", part, "NFC, NFD, NFKC, NFKD, Prepend, Replace and Strip");
  }
  return step;
}

DecoderStep parse_decoder_part(const Json& part) {
  using Kind = DecoderStep::Kind;
  const auto& type = string_member(part, "type", "decoder");
  const std::string where = "decoder." + type;
  DecoderStep step;
  if (type == "ByteLevel") {
    step.kind = Kind::byte_level;
  } else if (type == "ByteFallback") {
    step.kind = Kind::byte_fallback;
  } else if (type == "Fuse") {
    step.kind = Kind::fuse;
  } else if (type == "Replace") {
    const auto pattern = parse_pattern(part, where);
    check(!pattern.is_regex, where, ".pattern: a Regex is not supported here, only a String");
    step.kind = Kind::replace;
    step.pattern = pattern.text;
    step.content = string_member(part, "content", where);
  } else if (type == "Strip") {
    step.kind = Kind::strip;
    step.pattern = character_member(part, "content", where);
    step.start = count_member(part, "start", where);
    step.stop = count_member(part, "stop", where);
  } else if (type == "Metaspace") {
    step.kind = Kind::metaspace;
    step.pattern = character_member(part, "replacement", where);
    step.drop_first = parse_prepend(part, where) != PreTokenizerStep::Prepend::never;
  } else {
    refuse_component(
        "decoder", part, "ByteLevel, ByteFallback, Fuse, Replace, Strip and Metaspace");
  }
  return step;
}

} // namespace

std::vector<const Json*> component_parts(const Json& root, const char* key, const char* list) {
  std::vector<const Json*> parts;
  const auto& component = member(root, key);
  if (!component.is_null()) {
    flatten(component, list, key, parts);
  }
  return parts;
}

void refuse_component(const std::string& where, const Json& component, const char* supported) {
  fail(
      where,
      ": ",
      shown(string_member(component, "type", where)),
      " is not supported here, only ",
      supported);
}

void parse_normalizer(const Json& root, TokenizerDefinition& definition) {
  for (const Json* part : component_parts(root, "normalizer", "normalizers")) {
    definition.normalizer.push_back(parse_normalizer_part(*part));
  }
  definition.normalizer_json = member(root, "normalizer").dump();
}

void parse_pre_tokenizer(const Json& root, TokenizerDefinition& definition) {
  const auto parts = component_parts(root, "pre_tokenizer", "pretokenizers");
  definition.byte_level = false;
  for (const Json* part : parts) {
    check(!definition.byte_level, "pre_tokenizer: ByteLevel is supported at the end only");
    if (string_member(*part, "type", "pre_tokenizer") == "ByteLevel") {
      definition.byte_level = true;
      add_byte_level(*part, definition.pre_tokenizer);
    } else {
      definition.pre_tokenizer.push_back(parse_pre_tokenizer_part(*part));
    }
  }
  definition.pre_tokenizer_json = member(root, "pre_tokenizer").dump();
}

void parse_decoder(const Json& root, TokenizerDefinition& definition) {
  definition.decoder.clear();
  for (const Json* part : component_parts(root, "decoder", "decoders")) {
    definition.decoder.push_back(parse_decoder_part(*part));
  }
  check(
      !definition.decoder.empty(),
      "decoder: there is none; tokens would be joined by spaces, which is not supported");
  const bool is_byte_level = definition.decoder[0].kind == DecoderStep::Kind::byte_level;
  check(
      is_byte_level == definition.byte_level,
      "decoder: ",
      is_byte_level ? "ByteLevel, but pre_tokenizer does not end with ByteLevel"
                    : "is not ByteLevel, but pre_tokenizer ends with ByteLevel",
      "; not supported");
  definition.decoder_json = member(root, "decoder").dump();
}

} // namespace moe
