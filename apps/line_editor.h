#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

namespace moe {

/// `$XDG_STATE_HOME/moe/history` or `~/.local/state/moe/history`; empty without a home.
std::filesystem::path default_history_file();

/// Reads lines that a person types, with editing and a history that outlives the program.
/// Where stdin or stderr is no terminal it reads plain lines and shows no prompt.
///
/// The prompt goes to stderr, since stdout carries results only. A history that cannot be read
/// or written is left out without a message: it is a convenience, and the text was generated.
///
/// Example:
/// ```
/// LineEditor editor("> ");
/// while (const auto line = editor.read_line()) { ... }
/// ```
class LineEditor {
 public:
  explicit LineEditor(
      const std::string& prompt,
      const std::filesystem::path& history_file = default_history_file());

  ~LineEditor();
  LineEditor(const LineEditor&) = delete;
  LineEditor& operator=(const LineEditor&) = delete;

  /// The next line without its end, which the history on the disk gets; nothing at the end of
  /// the input (Ctrl-D).
  std::optional<std::string> read_line();

 private:
  struct Terminal;
  std::unique_ptr<Terminal> terminal_;
};

} // namespace moe
