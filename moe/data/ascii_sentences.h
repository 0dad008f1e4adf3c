#pragma once

#include <string>
#include <string_view>

namespace moe {

/// `text` without the sentences in which more than `max_share` of the characters other than
/// white space are ASCII. A sentence ends at `。`, `！`, `？` or the end of its line. For text
/// in another script that is full of commands and file names.
std::string without_ascii_sentences(std::string_view text, double max_share);

} // namespace moe
