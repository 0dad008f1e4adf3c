#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "moe/data/chat/chat_message.h"
#include "moe/data/tokenizer/tokenizer.h"
#include "moe/data/tokenizer/tokenizer_config.h"

namespace moe {

/// How a family of models writes conversations.
enum class ChatFamily {
  chatml,  ///< `<|im_start|>user\nHi<|im_end|>\n`
  llama2,  ///< `[INST] <<SYS>>\n...\n<</SYS>>\n\nHi [/INST] Hello </s>`
  llama3,  ///< `<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>`
  llama4,  ///< `<|header_start|>user<|header_end|>\n\nHi<|eot|>`
  mistral, ///< `[INST] Hi [/INST]Hello</s>`; newer ones `[SYSTEM_PROMPT]...[/SYSTEM_PROMPT]`
  harmony, ///< gpt-oss: `<|start|>user<|message|>Hi<|end|>`
};

/// A family with what differs between its models.
struct ChatFormat {
  ChatFamily family = ChatFamily::chatml;
  std::string bos_token;      ///< begins a conversation; empty for none
  std::string eos_token;      ///< llama2, mistral: ends a reply
  std::string default_system; ///< chatml, mistral: where no system message is given; or empty
  bool thinking = false;      ///< chatml as in Qwen3: thoughts of earlier replies are left out
  bool dated_system = false;  ///< llama3 since 3.1: every system message tells dates
  std::string date;           ///< llama3, harmony: today; empty asks the clock
  std::string before_user = "[INST] "; ///< mistral
  std::string after_user = " [/INST]"; ///< mistral
  std::string before_reply;            ///< mistral
  bool strip_reply = false;            ///< mistral: without the spaces around it
  bool system_in_last_turn = false;    ///< mistral: the system message goes into the last turn
  std::string before_system;           ///< mistral: "[SYSTEM_PROMPT]"; empty: joins a turn
  std::string after_system;            ///< mistral: "[/SYSTEM_PROMPT]"
  bool needs_system = false;    ///< mistral: the template's own is not just text (a date)
  std::string reasoning_effort; ///< mistral: written as [MODEL_SETTINGS]; empty for none
};

/// The names that `named_chat_format` knows, separated by commas.
std::string_view chat_format_names();

/// The usual form of a family: "chatml", "llama2", "llama3", "llama4", "mistral" or "harmony".
/// Throws `Error` for another name.
ChatFormat named_chat_format(const std::string& name, const TokenizerConfig& config);

/// The format that a folder's template (or, where it has none, its special tokens) asks for.
/// Throws `Error` when the template is none of the known families.
ChatFormat recognise_chat_format(const TokenizerConfig& config, const Tokenizer& tokenizer);

/// The same; nothing where that throws.
std::optional<ChatFormat> find_chat_format(
    const TokenizerConfig& config, const Tokenizer& tokenizer);

/// The text of a conversation: what transformers' `apply_chat_template(tokenize=False)` gives.
/// `add_reply_header` adds what comes before the next reply. Throws `Error` for turns that the
/// family does not have, such as an unknown role, and without a system message where the format
/// needs one.
std::string chat_text(
    const ChatFormat& format, const std::vector<ChatMessage>& messages, bool add_reply_header);

/// The ids of a conversation.
struct ChatTokens {
  std::vector<int32_t> ids;
  std::vector<bool> is_reply; ///< whether the assistant writes the token: its text, and the
                              ///< token that ends its turn
};

/// The same as ids: those of `apply_chat_template(tokenize=True)`, except that special tokens
/// written in a message are ordinary text, so that nobody can forge a turn. Throws `Error` when
/// the tokenizer lacks one of the format's tokens.
ChatTokens encode_chat(
    const ChatFormat& format,
    const Tokenizer& tokenizer,
    const std::vector<ChatMessage>& messages,
    bool add_reply_header);

/// The ids that end a reply, as far as the tokenizer has them.
std::vector<int32_t> end_of_reply_ids(const ChatFormat& format, const Tokenizer& tokenizer);

} // namespace moe
