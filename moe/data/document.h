#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "moe/data/chat/chat_message.h"

namespace moe {

/// One text with the place that it came from.
struct Document {
  std::string text;   ///< valid UTF-8, never only white space
  std::string domain; ///< name of its data source
  std::string path;   ///< relative to a folder source, the file's name otherwise; with `/`
  int64_t number = 0; ///< from 0 within the file: JSONL line or block; 0 for a file of a folder
  std::vector<ChatMessage> messages =
      {}; ///< of a conversation; `text` is then all that is said
};

} // namespace moe
