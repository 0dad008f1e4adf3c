#include "moe/data/chat/chat_format.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "moe/data/chat/chat_segments_internal.h"
#include "moe/data/chat/chat_template_internal.h"
#include "moe/error.h"

namespace moe {
namespace {

constexpr std::pair<std::string_view, ChatFamily> kFamilies[] = {
    {"chatml", ChatFamily::chatml},
    {"llama2", ChatFamily::llama2},
    {"llama3", ChatFamily::llama3},
    {"llama4", ChatFamily::llama4},
    {"mistral", ChatFamily::mistral},
    {"harmony", ChatFamily::harmony}};

/// The token in whose presence a family is recognised, the surest first.
constexpr std::pair<std::string_view, ChatFamily> kMarks[] = {
    {"<|im_start|>", ChatFamily::chatml},
    {"<|start_header_id|>", ChatFamily::llama3},
    {"<|header_start|>", ChatFamily::llama4},
    {"<|channel|>", ChatFamily::harmony},
    {"<<SYS>>", ChatFamily::llama2},
    {"[INST]", ChatFamily::mistral}};

constexpr const char* kSystemPrompt = "[SYSTEM_PROMPT]";

bool has(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

/// Whether conversations of a family begin with the token that begins a text, and replies end
/// with the one that ends it.
ChatFormat with_tokens(ChatFamily family, const TokenizerConfig& config) {
  ChatFormat format;
  format.family = family;
  format.eos_token = config.eos_token.value_or("</s>");
  if (family == ChatFamily::llama2 || family == ChatFamily::mistral) {
    format.bos_token = config.bos_token.value_or("<s>");
  } else if (family == ChatFamily::llama3 || family == ChatFamily::llama4) {
    format.bos_token = config.bos_token.value_or("<|begin_of_text|>");
  }
  return format;
}

/// The form of Mistral's models that have tokens for the system message.
void use_system_tokens(ChatFormat& format) {
  format.before_user = "[INST]";
  format.after_user = "[/INST]";
  format.before_system = kSystemPrompt;
  format.after_system = "[/SYSTEM_PROMPT]";
}

int32_t control_id(const Tokenizer& tokenizer, const std::string& token) {
  const auto id = tokenizer.token_id(token);
  check(
      id.has_value(),
      "chat format: the tokenizer has no token ",
      token,
      token.starts_with("<|im_") ? "; moe-convert IN OUT --chat-format chatml adds it" : "");
  return *id;
}

/// Whether a format's token may be written as text where the tokenizer lacks it: older models
/// of these families spell it.
bool may_be_text(const std::string& token) {
  return token == "[INST]" || token == "[/INST]";
}

/// Text between two control tokens, encoded as one, with the bounds of what the assistant
/// wrote.
class Section {
 public:
  void add(const ChatSegment& segment) {
    if (segment.is_reply && !reply_begin_) {
      reply_begin_ = text_.size();
    }
    text_ += segment.text;
    has_tokens_ |= segment.has_tokens;
    if (segment.is_reply) {
      reply_end_ = text_.size();
    }
  }

  void encode_into(const Tokenizer& tokenizer, ChatTokens& tokens) {
    const auto ids = has_tokens_ ? tokenizer.encode(text_) : tokenizer.encode_ordinary(text_);
    const size_t begin =
        reply_begin_ ? common_prefix(tokenizer, ids, *reply_begin_) : ids.size();
    const size_t end = reply_begin_ ? common_prefix(tokenizer, ids, reply_end_) : ids.size();
    for (size_t i = 0; i < ids.size(); ++i) {
      tokens.ids.push_back(ids[i]);
      tokens.is_reply.push_back(i >= begin && i < std::max(end, begin + 1));
    }
    *this = Section();
  }

 private:
  /// How many of `ids` are those of the first `bytes` of the text.
  size_t common_prefix(
      const Tokenizer& tokenizer, const std::vector<int32_t>& ids, size_t bytes) const {
    if (bytes == text_.size()) {
      return ids.size();
    }
    const auto prefix = tokenizer.encode_ordinary(std::string_view(text_).substr(0, bytes));
    const auto size = std::min(prefix.size(), ids.size());
    return static_cast<size_t>(
        std::mismatch(prefix.begin(), prefix.begin() + static_cast<int64_t>(size), ids.begin())
            .first -
        prefix.begin());
  }

  std::string text_;
  std::optional<size_t> reply_begin_;
  size_t reply_end_ = 0;
  bool has_tokens_ = false;
};

} // namespace

std::string_view chat_format_names() {
  return "chatml, llama2, llama3, llama4, mistral, harmony";
}

ChatFormat named_chat_format(const std::string& name, const TokenizerConfig& config) {
  for (const auto& [known, family] : kFamilies) {
    if (known == name) {
      return with_tokens(family, config);
    }
  }
  fail("chat_format: ", name, " is not known, only ", chat_format_names());
}

ChatFormat recognise_chat_format(const TokenizerConfig& config, const Tokenizer& tokenizer) {
  const auto& jinja = config.chat_template;
  for (const auto& [mark, family] : kMarks) {
    const bool is_there =
        jinja.empty() ? tokenizer.token_id(mark).has_value() : has(jinja, mark);
    if (is_there) {
      auto format = with_tokens(family, config);
      if (!jinja.empty()) {
        read_chat_template(jinja, format);
      } else if (family == ChatFamily::mistral && tokenizer.token_id(kSystemPrompt)) {
        use_system_tokens(format);
      }
      return format;
    }
  }
  check(
      !jinja.empty(),
      "chat: the folder has no chat template and no tokens of a known chat format; a base "
      "model "
      "gets one by moe-convert IN OUT --chat-format chatml, and learns it from conversations");
  fail(
      "chat: the folder's chat template is none of the known formats; --chat-format takes ",
      chat_format_names());
}

std::optional<ChatFormat> find_chat_format(
    const TokenizerConfig& config, const Tokenizer& tokenizer) {
  try {
    return recognise_chat_format(config, tokenizer);
  } catch (const Error&) {
    return std::nullopt;
  }
}

std::string chat_text(
    const ChatFormat& format, const std::vector<ChatMessage>& messages, bool add_reply_header) {
  std::string text;
  for (const auto& segment : chat_segments(format, messages, add_reply_header)) {
    text += segment.text;
  }
  return text;
}

ChatTokens encode_chat(
    const ChatFormat& format,
    const Tokenizer& tokenizer,
    const std::vector<ChatMessage>& messages,
    bool add_reply_header) {
  ChatTokens tokens;
  Section section;
  for (const auto& segment : chat_segments(format, messages, add_reply_header)) {
    const bool is_text =
        !segment.is_control || (may_be_text(segment.text) && !tokenizer.token_id(segment.text));
    if (is_text) {
      section.add(segment);
      continue;
    }
    section.encode_into(tokenizer, tokens);
    tokens.ids.push_back(control_id(tokenizer, segment.text));
    tokens.is_reply.push_back(segment.is_reply);
  }
  section.encode_into(tokenizer, tokens);
  return tokens;
}

std::vector<int32_t> end_of_reply_ids(const ChatFormat& format, const Tokenizer& tokenizer) {
  std::vector<std::string> tokens = {format.eos_token};
  switch (format.family) {
    case ChatFamily::chatml:
      tokens.push_back("<|im_end|>");
      break;
    case ChatFamily::llama3:
      tokens.push_back("<|eot_id|>");
      break;
    case ChatFamily::llama4:
      tokens.push_back("<|eot|>");
      break;
    case ChatFamily::harmony:
      tokens.insert(tokens.end(), {"<|return|>", "<|call|>"});
      break;
    default:
      break;
  }
  std::vector<int32_t> ids;
  for (const auto& token : tokens) {
    if (const auto id = tokenizer.token_id(token)) {
      ids.push_back(*id);
    }
  }
  return ids;
}

} // namespace moe
