#include <algorithm>
#include <optional>
#include <string_view>
#include <vector>

#include "moe/data/chat/chat_template_internal.h"
#include "moe/error.h"

namespace moe {
namespace {

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

bool is_jinja_space(char character) {
  return character == ' ' || character == '\t' || character == '\n' || character == '\r';
}

std::string without_comments(std::string_view jinja) {
  std::string text;
  while (true) {
    const size_t begin = jinja.find("{#");
    text.append(jinja.substr(0, begin));
    const size_t end = begin == std::string_view::npos ? begin : jinja.find("#}", begin + 2);
    if (end == std::string_view::npos) {
      return text;
    }
    jinja.remove_prefix(end + 2);
  }
}

std::string without_spaces(std::string text) {
  text.erase(std::remove_if(text.begin(), text.end(), is_jinja_space), text.end());
  return text;
}

/// The text of a string as a template spells it; nothing for an escape that is not among the
/// usual ones.
std::optional<std::string> unescaped(std::string_view spelled) {
  std::string text;
  for (size_t i = 0; i < spelled.size(); ++i) {
    if (spelled[i] != '\\') {
      text += spelled[i];
      continue;
    }
    if (++i == spelled.size()) {
      return std::nullopt;
    }
    constexpr std::string_view kEscapes = "nrt\\'\"";
    constexpr std::string_view kMeanings = "\n\r\t\\'\"";
    const size_t kind = kEscapes.find(spelled[i]);
    if (kind != std::string_view::npos) {
      text += kMeanings[kind];
    } else if (spelled[i] != '\n') { // a backslash at the end of a line joins it to the next
      return std::nullopt;
    }
  }
  return text;
}

/// What `{% set NAME = ... %}` gives a name.
struct Assignment {
  bool begins_with_text = false;
  std::optional<std::string> text; ///< nothing where it is more than strings
};

/// Reads from the sign `=` on.
Assignment read_assignment(std::string_view jinja) {
  const auto skip_spaces = [&] {
    while (!jinja.empty() && is_jinja_space(jinja.front())) {
      jinja.remove_prefix(1);
    }
  };
  Assignment assignment;
  std::string text;
  for (jinja.remove_prefix(1);; jinja.remove_prefix(1)) { // past `=`, then past each `+`
    skip_spaces();
    const char quote = jinja.empty() ? '\0' : jinja.front();
    if (quote != '\'' && quote != '"') {
      return assignment;
    }
    assignment.begins_with_text = true;
    size_t end = 1;
    while (end < jinja.size() && jinja[end] != quote) {
      end += jinja[end] == '\\' ? 2 : 1;
    }
    const auto part = end < jinja.size() ? unescaped(jinja.substr(1, end - 1)) : std::nullopt;
    if (!part) {
      return assignment;
    }
    text += *part;
    jinja.remove_prefix(end + 1);
    skip_spaces();
    if (jinja.starts_with("%}") || jinja.starts_with("-%}")) {
      assignment.text = text;
      return assignment;
    }
    if (!jinja.starts_with("+") && !jinja.starts_with("~")) {
      return assignment;
    }
  }
}

std::vector<Assignment> assignments_to(std::string_view name, std::string_view jinja) {
  std::vector<Assignment> assignments;
  for (size_t at = jinja.find(name); at != std::string_view::npos;
       at = jinja.find(name, at + name.size())) {
    const auto before = jinja.substr(0, at);
    const size_t sign = jinja.find_first_not_of(' ', at + name.size());
    if (before.ends_with("set ") && sign != std::string_view::npos && jinja[sign] == '=') {
      assignments.push_back(read_assignment(jinja.substr(sign)));
    }
  }
  return assignments;
}

/// The system message that a ChatML template writes where none is given.
std::string chatml_system(std::string_view jinja) {
  constexpr std::string_view kStart = "<|im_start|>system\\n";
  for (size_t at = jinja.find(kStart); at != std::string_view::npos;
       at = jinja.find(kStart, at + 1)) {
    const auto rest = jinja.substr(at + kStart.size());
    const size_t end = rest.find("<|im_end|>");
    const size_t quote = rest.find_first_of("'\"");
    if (end != std::string_view::npos && end > 0 && quote > end) {
      return unescaped(rest.substr(0, end)).value_or(std::string(rest.substr(0, end)));
    }
  }
  return "";
}

/// The string of a template around a token such as `[INST]`, with its spaces; the token alone
/// where the template does not spell it out.
std::string with_spaces(std::string_view jinja, std::string_view token) {
  const size_t at = jinja.find(token);
  if (at == std::string_view::npos) {
    return std::string(token);
  }
  const size_t end = at + token.size();
  const bool space_before = at > 0 && jinja[at - 1] == ' ';
  const bool space_behind = end < jinja.size() && jinja[end] == ' ';
  return std::string(space_before ? " " : "").append(token).append(space_behind ? " " : "");
}

/// Whether words follow `[SYSTEM_PROMPT]` in the same string.
bool has_words_behind(std::string_view token, std::string_view jinja) {
  for (size_t at = jinja.find(token); at != std::string_view::npos;
       at = jinja.find(token, at + 1)) {
    const size_t next = jinja.find_first_not_of(' ', at + token.size());
    if (next != std::string_view::npos && !contains("'\"{", jinja.substr(next, 1))) {
      return true;
    }
  }
  return false;
}

/// The system message that a template with `[SYSTEM_PROMPT]` writes where none is given, or
/// that it is not understood.
void read_mistral_system(std::string_view jinja, ChatFormat& format) {
  auto assignments = assignments_to("default_system_message", jinja);
  if (assignments.empty()) {
    assignments = assignments_to("system_message", jinja);
    format.needs_system = contains(jinja, "strftime_now");
  } else {
    format.needs_system = assignments.size() > 1 || !assignments[0].text;
  }
  for (const auto& assignment : assignments) {
    const auto& text = assignment.text;
    const bool is_other = text && !text->empty() && !format.default_system.empty();
    format.needs_system |= is_other || (assignment.begins_with_text && !text);
    if (text && !text->empty()) {
      format.default_system = *text;
    } else if (text && !contains(without_spaces(std::string(jinja)), "system_message!=")) {
      format.needs_system = true; // an empty one is perhaps written, too
    }
  }
  format.needs_system |= has_words_behind("[SYSTEM_PROMPT]", jinja);
}

/// `[MODEL_SETTINGS]`: what the template writes where nobody asks for another effort.
void read_mistral_settings(std::string_view jinja, ChatFormat& format) {
  if (!contains(jinja, "[MODEL_SETTINGS]")) {
    return;
  }
  const bool is_known = contains(
                            jinja,
                            "'[MODEL_SETTINGS]{\"reasoning_effort\": \"' + reasoning_effort + "
                            "'\"}[/MODEL_SETTINGS]'") &&
                        contains(jinja, "reasoning_effort not in ['none', 'high']");
  check(
      is_known,
      "chat template: the settings that it writes as [MODEL_SETTINGS] are not understood, only "
      "a reasoning_effort of none or high; --chat-format mistral writes the older form");
  format.reasoning_effort = "none";
}

void read_mistral(const std::string& jinja, ChatFormat& format) {
  format.before_user = with_spaces(jinja, "[INST]");
  format.after_user = with_spaces(jinja, "[/INST]");
  const bool has_space = contains(jinja, "' ' + message['content'") ||
                         contains(jinja, "\" \" + message[\"content\"");
  format.before_reply = has_space ? " " : "";
  format.strip_reply = contains(without_spaces(jinja), "|trim+eos_token");
  format.system_in_last_turn = contains(jinja, "loop.last and system_message is defined") ||
                               contains(jinja, "system_message is defined and loop.last");
  if (contains(jinja, "[SYSTEM_PROMPT]")) {
    format.before_system = with_spaces(jinja, "[SYSTEM_PROMPT]");
    format.after_system = with_spaces(jinja, "[/SYSTEM_PROMPT]");
    read_mistral_system(jinja, format);
  }
  read_mistral_settings(jinja, format);
}

} // namespace

void read_chat_template(const std::string& commented, ChatFormat& format) {
  const auto jinja = without_comments(commented);
  switch (format.family) {
    case ChatFamily::chatml:
      format.default_system = chatml_system(jinja);
      format.thinking = contains(jinja, "reasoning_content") && contains(jinja, "</think>");
      break;
    case ChatFamily::llama3:
      format.dated_system = contains(jinja, "Cutting Knowledge Date");
      if (!contains(jinja, "strftime_now")) {
        format.date = "26 Jul 2024"; // what these templates say without a clock
      }
      break;
    case ChatFamily::mistral:
      read_mistral(jinja, format);
      break;
    default:
      break;
  }
}

} // namespace moe
