#include "moe/data/tokenizer/tokenizer_config.h"

#include "moe/data/tokenizer/json_members_internal.h"
#include "moe/error.h"
#include "moe/files/atomic_file.h"

namespace moe {
namespace {

using namespace json_members;

constexpr size_t kMaxTemplateBytes = size_t{1} << 20;

/// A token: a string, or an object with `content`.
std::optional<std::string> token_member(
    const Json& object, const char* key, const std::string& file) {
  const auto& value = member(object, key);
  if (value.is_null()) {
    return std::nullopt;
  }
  if (value.is_string()) {
    return value.get<std::string>();
  }
  return string_member(value, "content", file + ": " + key);
}

void read_special_tokens(const Json& object, const std::string& file, TokenizerConfig& config) {
  if (auto token = token_member(object, "bos_token", file)) {
    config.bos_token = std::move(token);
  }
  if (auto token = token_member(object, "eos_token", file)) {
    config.eos_token = std::move(token);
  }
  for (const char* key : {"bos_token", "eos_token", "unk_token", "pad_token"}) {
    if (auto token = token_member(object, key, file)) {
      config.special_tokens.push_back(*std::move(token));
    }
  }
  for (const char* key : {"additional_special_tokens", "extra_special_tokens"}) {
    const auto& list = member(object, key);
    for (const auto& value : list.is_array() ? list : Json::array()) {
      config.special_tokens.push_back(
          value.is_string() ? value.get<std::string>()
                            : string_member(value, "content", file + ": " + key));
    }
  }
}

/// A template: a string, or a list of named ones of which "default" counts.
std::string template_member(const Json& object, const std::string& file) {
  const auto& value = member(object, "chat_template");
  if (value.is_string()) {
    return value.get<std::string>();
  }
  for (const auto& named : value.is_array() ? value : Json::array()) {
    if (string_member(named, "name", file + ": chat_template") == "default") {
      return string_member(named, "template", file + ": chat_template");
    }
  }
  return "";
}

bool is_file(const std::filesystem::path& path) {
  std::error_code error;
  return std::filesystem::is_regular_file(path, error);
}

} // namespace

TokenizerConfig read_tokenizer_config(const std::filesystem::path& folder) {
  TokenizerConfig config;
  const auto tokens_file = folder / "special_tokens_map.json";
  if (is_file(tokens_file)) {
    read_special_tokens(read_json_object(tokens_file), tokens_file.string(), config);
  }
  const auto file = folder / "tokenizer_config.json";
  if (is_file(file)) {
    const auto object = read_json_object(file);
    read_special_tokens(object, file.string(), config);
    config.chat_template = template_member(object, file.string());
  }
  const auto template_file = folder / "chat_template.jinja";
  if (is_file(template_file)) {
    config.chat_template = read_text_file(template_file, kMaxTemplateBytes);
  }
  return config;
}

} // namespace moe
