#include "moe/data/chat/chat_segments_internal.h"

#include <ctime>

#include "moe/error.h"

namespace moe {
namespace {

using Messages = std::vector<ChatMessage>;

/// Python's `str.strip()` for the spaces of ASCII.
std::string stripped(const std::string& text) {
  constexpr const char* kSpaces = " \t\n\v\f\r";
  const size_t begin = text.find_first_not_of(kSpaces);
  return begin == std::string::npos
             ? ""
             : text.substr(begin, text.find_last_not_of(kSpaces) + 1 - begin);
}

std::string today(const char* form) {
  const std::time_t now = std::time(nullptr);
  std::tm local = {};
  localtime_r(&now, &local);
  char text[32] = "";
  std::strftime(text, sizeof(text), form, &local);
  return text;
}

/// Collects the parts of a conversation.
class Writer {
 public:
  Writer& control(const std::string& token, bool is_reply = false) {
    if (!token.empty()) {
      segments_.push_back({token, true, is_reply});
    }
    return *this;
  }
  Writer& template_text(std::string text) {
    segments_.push_back({std::move(text), false, false, true});
    return *this;
  }
  Writer& text(std::string text, bool is_reply = false) {
    if (!text.empty()) {
      segments_.push_back({std::move(text), false, is_reply});
    }
    return *this;
  }
  std::vector<ChatSegment> take() {
    return std::move(segments_);
  }

 private:
  std::vector<ChatSegment> segments_;
};

bool is_reply(const ChatMessage& message) {
  return message.role == "assistant";
}

void check_role(const ChatMessage& message, bool system_is_allowed) {
  check(
      message.role == "user" || message.role == "assistant" ||
          (system_is_allowed && message.role == "system"),
      "conversation: the role \"",
      message.role,
      "\" is not possible here, only user and assistant",
      system_is_allowed ? " and system" : "");
}

/// What a reply says after its thoughts.
std::string without_thoughts(const std::string& content) {
  const std::string end = "</think>";
  const size_t found = content.rfind(end);
  if (found == std::string::npos) {
    return content;
  }
  const size_t begin = content.find_first_not_of('\n', found + end.size());
  return begin == std::string::npos ? "" : content.substr(begin);
}

std::string thoughts(const std::string& content) {
  const size_t end = content.find("</think>");
  if (end == std::string::npos) {
    return "";
  }
  auto text = content.substr(0, end);
  if (const size_t begin = text.rfind("<think>"); begin != std::string::npos) {
    text.erase(0, begin + 7);
  }
  const size_t first = text.find_first_not_of('\n');
  return first == std::string::npos
             ? ""
             : text.substr(first, text.find_last_not_of('\n') + 1 - first);
}

size_t last_user_turn(const Messages& messages) {
  size_t last = messages.empty() ? 0 : messages.size() - 1;
  for (size_t i = 0; i < messages.size(); ++i) {
    if (messages[i].role == "user") {
      last = i;
    }
  }
  return last;
}

void write_chatml(
    const ChatFormat& format, const Messages& messages, bool header, Writer& out) {
  out.control(format.bos_token);
  const bool has_system = !messages.empty() && messages[0].role == "system";
  if (!has_system && !format.default_system.empty()) {
    out.control("<|im_start|>").text("system\n" + format.default_system);
    out.control("<|im_end|>").text("\n");
  }
  const size_t last_query = last_user_turn(messages);
  for (size_t i = 0; i < messages.size(); ++i) {
    const auto& message = messages[i];
    check_role(message, /*system_is_allowed=*/true);
    auto content = message.content;
    if (format.thinking && is_reply(message)) {
      const auto thought = thoughts(content);
      content = without_thoughts(content);
      if (i > last_query && (i + 1 == messages.size() || !thought.empty())) {
        content.insert(0, "\n</think>\n\n").insert(0, thought).insert(0, "<think>\n");
      }
    }
    out.control("<|im_start|>").text(message.role + "\n").text(content, is_reply(message));
    out.control("<|im_end|>", is_reply(message)).text("\n");
  }
  if (header) {
    out.control("<|im_start|>").text("assistant\n");
  }
}

/// Llama 3 and 4: a role between two tokens, the text, a token.
struct HeaderTokens {
  const char* start;
  const char* end;
  const char* end_of_turn;
};

void write_headers(
    const ChatFormat& format,
    const HeaderTokens& tokens,
    const Messages& messages,
    bool header,
    Writer& out) {
  out.control(format.bos_token);
  const auto begin_turn = [&](const std::string& role) {
    out.control(tokens.start).text(role).control(tokens.end).text("\n\n");
  };
  size_t first = 0;
  if (format.dated_system) {
    const bool has_system = !messages.empty() && messages[0].role == "system";
    first = has_system ? 1 : 0;
    begin_turn("system");
    const auto date = format.date.empty() ? today("%d %b %Y") : format.date;
    out.text(
        "Cutting Knowledge Date: December 2023\nToday Date: " + date + "\n\n" +
        (has_system ? stripped(messages[0].content) : ""));
    out.control(tokens.end_of_turn);
  }
  for (size_t i = first; i < messages.size(); ++i) {
    const auto& message = messages[i];
    check_role(message, /*system_is_allowed=*/true);
    begin_turn(message.role);
    out.text(stripped(message.content), is_reply(message));
    out.control(tokens.end_of_turn, is_reply(message));
  }
  if (header) {
    begin_turn("assistant");
  }
}

/// Splits a leading system message off; the turns must alternate from the user on.
std::string take_system(Messages& messages) {
  std::string system;
  if (!messages.empty() && messages[0].role == "system") {
    system = messages[0].content;
    messages.erase(messages.begin());
  }
  for (size_t i = 0; i < messages.size(); ++i) {
    check_role(messages[i], /*system_is_allowed=*/false);
    check(
        is_reply(messages[i]) == (i % 2 == 1),
        "conversation: turns must alternate between user and assistant, beginning with user");
  }
  return system;
}

void write_llama2(const ChatFormat& format, Messages messages, Writer& out) {
  const auto system = take_system(messages);
  for (size_t i = 0; i < messages.size(); ++i) {
    const auto& message = messages[i];
    if (is_reply(message)) {
      out.text(" ", true).text(stripped(message.content), true).text(" ", true);
      out.control(format.eos_token, true);
      continue;
    }
    auto content = message.content;
    if (i == 0 && !system.empty()) {
      content.insert(0, "\n<</SYS>>\n\n").insert(0, system).insert(0, "<<SYS>>\n");
    }
    out.control(format.bos_token).control("[INST]");
    out.text(" ").text(stripped(content)).text(" ").control("[/INST]");
  }
}

/// `text` around the token `token`, which is a segment of its own.
void write_around(const std::string& text, const std::string& token, Writer& out) {
  const size_t at = text.find(token);
  if (at == std::string::npos) {
    out.text(text);
    return;
  }
  out.text(text.substr(0, at)).control(token).text(text.substr(at + token.size()));
}

void write_mistral_system(
    const ChatFormat& format, bool is_given, const std::string& system, Writer& out) {
  check(
      is_given || !format.needs_system,
      "conversation: there is no system message, and the one that the chat template writes "
      "then "
      "has a date or something else that is not understood; give one by --system TEXT or as a "
      "first message with the role system");
  if (!is_given && format.default_system.empty()) {
    return;
  }
  write_around(format.before_system, "[SYSTEM_PROMPT]", out);
  if (is_given) {
    out.text(system);
  } else {
    out.template_text(format.default_system);
  }
  write_around(format.after_system, "[/SYSTEM_PROMPT]", out);
}

void write_mistral(const ChatFormat& format, Messages messages, Writer& out) {
  const bool is_given = !messages.empty() && messages[0].role == "system";
  auto system = take_system(messages);
  out.control(format.bos_token);
  if (!format.before_system.empty()) {
    write_mistral_system(format, is_given, system, out);
    system.clear();
  }
  if (!format.reasoning_effort.empty()) {
    out.control("[MODEL_SETTINGS]");
    out.text("{\"reasoning_effort\": \"" + format.reasoning_effort + "\"}");
    out.control("[/MODEL_SETTINGS]");
  }
  const size_t system_turn = format.system_in_last_turn ? last_user_turn(messages) : 0;
  for (size_t i = 0; i < messages.size(); ++i) {
    const auto& message = messages[i];
    if (is_reply(message)) {
      const auto reply = format.strip_reply ? stripped(message.content) : message.content;
      out.text(format.before_reply + reply, true).control(format.eos_token, true);
      continue;
    }
    const bool has_system = i == system_turn && !system.empty();
    write_around(format.before_user, "[INST]", out);
    out.text(has_system ? system + "\n\n" + message.content : message.content);
    write_around(format.after_user, "[/INST]", out);
  }
}

void write_harmony(const ChatFormat& format, Messages messages, bool header, Writer& out) {
  const auto date = format.date.empty() ? today("%Y-%m-%d") : format.date;
  out.control("<|start|>").text("system").control("<|message|>");
  out.text(
      "You are ChatGPT, a large language model trained by OpenAI.\nKnowledge cutoff: 2024-06\n"
      "Current date: " +
      date +
      "\n\nReasoning: medium\n\n# Valid channels: analysis, commentary, final. Channel must be "
      "included for every message.");
  out.control("<|end|>");
  if (!messages.empty() && (messages[0].role == "system" || messages[0].role == "developer")) {
    out.control("<|start|>").text("developer").control("<|message|>");
    out.text("# Instructions\n\n" + messages[0].content + "\n\n").control("<|end|>");
    messages.erase(messages.begin());
  }
  for (size_t i = 0; i < messages.size(); ++i) {
    const auto& message = messages[i];
    check_role(message, /*system_is_allowed=*/false);
    const bool reply = is_reply(message);
    out.control("<|start|>").text(message.role);
    if (reply) {
      out.control("<|channel|>", true).text("final", true);
    }
    out.control("<|message|>", reply).text(message.content, reply);
    const bool ends_text = reply && i + 1 == messages.size() && !header;
    out.control(ends_text ? "<|return|>" : "<|end|>", reply);
  }
  if (header) {
    out.control("<|start|>").text("assistant");
  }
}

} // namespace

std::vector<ChatSegment> chat_segments(
    const ChatFormat& format, const Messages& messages, bool add_reply_header) {
  Writer out;
  switch (format.family) {
    case ChatFamily::chatml:
      write_chatml(format, messages, add_reply_header, out);
      break;
    case ChatFamily::llama3:
      write_headers(
          format,
          {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"},
          messages,
          add_reply_header,
          out);
      break;
    case ChatFamily::llama4:
      write_headers(
          format,
          {"<|header_start|>", "<|header_end|>", "<|eot|>"},
          messages,
          add_reply_header,
          out);
      break;
    case ChatFamily::llama2:
      write_llama2(format, messages, out);
      break;
    case ChatFamily::mistral:
      write_mistral(format, messages, out);
      break;
    case ChatFamily::harmony:
      write_harmony(format, messages, add_reply_header, out);
      break;
  }
  return out.take();
}

} // namespace moe
