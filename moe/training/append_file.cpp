#include "moe/training/append_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <utility>

#include "moe/error.h"

namespace moe {

AppendFile::AppendFile(const std::filesystem::path& path, bool must_be_new) : path_(path) {
  const int flags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | (must_be_new ? O_EXCL : 0);
  descriptor_ = ::open(path.c_str(), flags, 0666);
  check(descriptor_ >= 0, path.string(), ": cannot write: ", std::strerror(errno));
}

AppendFile::~AppendFile() {
  if (descriptor_ >= 0) {
    ::close(descriptor_);
  }
}

AppendFile::AppendFile(AppendFile&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)) {}

AppendFile& AppendFile::operator=(AppendFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

void AppendFile::append(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) {
      continue;
    }
    check(written >= 0, path_.string(), ": cannot write: ", std::strerror(errno));
    bytes.remove_prefix(static_cast<size_t>(written));
  }
}

} // namespace moe
