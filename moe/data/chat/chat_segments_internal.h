#pragma once

// Private to the library: not installed.

#include <string>
#include <vector>

#include "moe/data/chat/chat_format.h"

namespace moe {

/// A part of a conversation's text.
struct ChatSegment {
  std::string text;
  bool is_control = false; ///< one token of the format, not text
  bool is_reply = false;   ///< written by the assistant
  bool has_tokens = false; ///< special tokens in it are tokens: the template's own text
};

/// The conversation in parts; joined they are `chat_text`.
std::vector<ChatSegment> chat_segments(
    const ChatFormat& format, const std::vector<ChatMessage>& messages, bool add_reply_header);

} // namespace moe
