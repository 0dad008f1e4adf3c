#pragma once

// Private to the library: not installed.

#include <string>

#include "moe/data/chat/chat_format.h"

namespace moe {

/// Takes what differs between the models of `format.family` from a chat template. Throws
/// `Error` for what a template of the family does that `ChatFormat` cannot say.
void read_chat_template(const std::string& jinja, ChatFormat& format);

} // namespace moe
