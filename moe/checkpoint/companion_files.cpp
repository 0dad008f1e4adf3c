#include "moe/checkpoint/companion_files.h"

#include "moe/files/atomic_file.h"

namespace moe {
namespace {

void copy_if_there(
    const std::filesystem::path& from, const std::filesystem::path& to, const char* name) {
  std::error_code error;
  if (std::filesystem::is_regular_file(from / name, error)) {
    write_file_atomically(to / name, read_text_file(from / name));
  }
}

} // namespace

void copy_companions(const std::filesystem::path& from, const std::filesystem::path& to) {
  copy_if_there(from, to, "tokenizer.json");
  for (const char* name : kCompanionFiles) {
    copy_if_there(from, to, name);
  }
}

} // namespace moe
