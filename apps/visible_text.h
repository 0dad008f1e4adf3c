#pragma once

#include <string>
#include <string_view>

namespace moe {

/// Bytes of any origin, such as a token, as text that can be shown anywhere: control characters
/// become symbols (`␀`, `↵` for a line end, `⇥` for a tab), characters that change the
/// direction or are invisible `⟨U+202E⟩`, and bytes that are not UTF-8 `⟨E3 81⟩`. With
/// `mark_spaces` a space becomes `␣`; without it spaces, line ends and tabs stay.
std::string visible_text(std::string_view bytes, bool mark_spaces = true);

} // namespace moe
