#include "moe/files/atomic_folder.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "moe/error.h"
#include "moe/files/atomic_file.h"

namespace moe {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail_to_write(const fs::path& path, const std::string& reason) {
  fail(path.string(), ": cannot write: ", reason);
}

void sync_file(const fs::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  const bool synced = descriptor >= 0 && ::fsync(descriptor) == 0;
  const int error = errno;
  if (descriptor >= 0) {
    ::close(descriptor);
  }
  if (!synced) {
    fail_to_write(path, std::strerror(error));
  }
}

void sync_tree(const fs::path& folder) {
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.is_directory() && !entry.is_symlink()) {
      sync_tree(entry.path());
    } else if (entry.is_regular_file()) {
      sync_file(entry.path());
    }
  }
  sync_folder(folder);
}

// Gives `source` the name `target`. What had that name gets the name `source`, in one step
// where the file system can.
void exchange_or_rename(const fs::path& source, const fs::path& target) {
  if (::renameat2(AT_FDCWD, source.c_str(), AT_FDCWD, target.c_str(), RENAME_EXCHANGE) == 0) {
    return;
  }
  const fs::path old = temporary_path(target).string() + "-old";
  if (errno != ENOENT && fs::exists(target)) {
    fs::rename(target, old);
    fs::rename(source, target);
    fs::remove_all(old);
  } else {
    fs::rename(source, target);
  }
}

} // namespace

AtomicFolder::AtomicFolder(fs::path final_path) : final_path_(std::move(final_path)) {
  final_path_ = fs::absolute(final_path_).lexically_normal();
  if (!final_path_.has_filename()) {
    final_path_ = final_path_.parent_path();
  }
  temporary_ = temporary_path(final_path_);
  try {
    fs::create_directories(final_path_.parent_path());
    fs::remove_all(temporary_);
    fs::create_directory(temporary_);
  } catch (const fs::filesystem_error& error) {
    fail_to_write(final_path_, error.code().message());
  }
}

AtomicFolder::~AtomicFolder() {
  if (!committed_) {
    std::error_code ignored;
    fs::remove_all(temporary_, ignored);
  }
}

const fs::path& AtomicFolder::path() const {
  return temporary_;
}

void AtomicFolder::commit() {
  try {
    sync_tree(temporary_);
    exchange_or_rename(temporary_, final_path_);
    sync_folder(final_path_.parent_path());
    fs::remove_all(temporary_);
  } catch (const fs::filesystem_error& error) {
    fail_to_write(final_path_, error.code().message());
  }
  committed_ = true;
}

void check_is_new(const fs::path& folder) {
  std::error_code ignored;
  check(
      !fs::exists(folder, ignored) || fs::is_empty(folder, ignored),
      folder.string(),
      ": is already there; choose a new folder or remove it first");
}

void remove_temporaries(const fs::path& folder) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    if (is_temporary_name(entry.path().filename().string())) {
      fs::remove_all(entry.path(), error);
      check(!error, entry.path().string(), ": cannot remove: ", error.message());
    }
  }
}

} // namespace moe
