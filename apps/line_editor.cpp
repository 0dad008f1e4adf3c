#include "apps/line_editor.h"

#include <histedit.h>
#include <unistd.h>

#include <clocale>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <string_view>
#include <system_error>

#include "apps/terminal.h"

namespace moe {
namespace {

constexpr int history_length = 1000;

std::filesystem::path environment_folder(const char* variable) {
  const char* value = std::getenv(variable);
  const std::filesystem::path folder = value == nullptr ? "" : value;
  // The XDG specification: a relative path is to be ignored.
  return folder.is_absolute() ? folder : std::filesystem::path();
}

} // namespace

std::filesystem::path default_history_file() {
  const auto state = environment_folder("XDG_STATE_HOME");
  if (!state.empty()) {
    return state / "moe" / "history";
  }
  const auto home = environment_folder("HOME");
  return home.empty() ? home : home / ".local" / "state" / "moe" / "history";
}

struct LineEditor::Terminal {
  Terminal(std::string prompt_text, std::filesystem::path history_path)
      : prompt(std::move(prompt_text)),
        history_file(std::move(history_path)),
        editor(el_init("moe", stdin, stderr, stderr), el_end),
        past(history_init(), history_end) {}

  bool start() {
    if (editor == nullptr || past == nullptr) {
      return false;
    }
    HistEvent event;
    history(past.get(), &event, H_SETSIZE, history_length);
    history(past.get(), &event, H_SETUNIQUE, 1);
    if (!history_file.empty()) {
      history(past.get(), &event, H_LOAD, history_file.c_str());
    }
    el_set(editor.get(), EL_CLIENTDATA, this);
    el_set(editor.get(), EL_PROMPT, &prompt_of);
    el_set(editor.get(), EL_EDITOR, "emacs");
    el_set(editor.get(), EL_HIST, history, past.get());
    // Restores the terminal's mode before a signal ends the program.
    el_set(editor.get(), EL_SIGNAL, 1);
    return true;
  }

  void save() {
    if (history_file.empty()) {
      return;
    }
    std::error_code ignored;
    std::filesystem::create_directories(history_file.parent_path(), ignored);
    HistEvent event;
    history(past.get(), &event, H_SAVE, history_file.c_str());
  }

  static char* prompt_of(EditLine* editor) {
    void* self = nullptr;
    el_get(editor, EL_CLIENTDATA, &self);
    return static_cast<Terminal*>(self)->prompt.data();
  }

  std::string prompt;
  std::filesystem::path history_file;
  std::unique_ptr<EditLine, void (*)(EditLine*)> editor;
  std::unique_ptr<History, void (*)(History*)> past;
};

LineEditor::LineEditor(const std::string& prompt, const std::filesystem::path& history_file) {
  if (!is_terminal(STDIN_FILENO) || !is_terminal(STDERR_FILENO)) {
    return;
  }
  // Only the kind of characters: number formats must stay those of the C locale.
  std::setlocale(LC_CTYPE, "");
  terminal_ = std::make_unique<Terminal>(prompt, history_file);
  if (!terminal_->start()) {
    terminal_.reset();
  }
}

LineEditor::~LineEditor() = default;

std::optional<std::string> LineEditor::read_line() {
  std::string line;
  if (!terminal_) {
    if (!std::getline(std::cin, line)) {
      return std::nullopt;
    }
  } else {
    int length = 0;
    const char* text = el_gets(terminal_->editor.get(), &length);
    if (text == nullptr || length <= 0) {
      return std::nullopt;
    }
    line.assign(text, static_cast<size_t>(length));
    if (line.find_first_not_of(" \t\n") != std::string::npos) {
      HistEvent event;
      history(terminal_->past.get(), &event, H_ENTER, text);
      // Now, as a signal may end the program at the next prompt.
      terminal_->save();
    }
  }
  while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) {
    line.pop_back();
  }
  return line;
}

} // namespace moe
