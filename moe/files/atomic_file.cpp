#include "moe/files/atomic_file.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ctime>
#include <system_error>
#include <utility>

#include "moe/error.h"
#include "moe/files/mapped_file.h"

namespace moe {
namespace {

constexpr std::string_view kTemporaryPrefix = ".tmp-";

// A file size limit (ulimit -f) sends SIGXFSZ, which ends the process unless it is blocked.
// With this, write() returns EFBIG instead, in this thread only.
class FileSizeSignalBlock {
 public:
  FileSizeSignalBlock() {
    ::sigemptyset(&signal_);
    ::sigaddset(&signal_, SIGXFSZ);
    ::pthread_sigmask(SIG_BLOCK, &signal_, &before_);
  }
  ~FileSizeSignalBlock() {
    const timespec now{};
    if (::sigismember(&before_, SIGXFSZ) == 0) {
      ::sigtimedwait(&signal_, /*info=*/nullptr, &now); // takes a pending one
    }
    ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  FileSizeSignalBlock(const FileSizeSignalBlock&) = delete;
  FileSizeSignalBlock& operator=(const FileSizeSignalBlock&) = delete;

 private:
  sigset_t signal_{};
  sigset_t before_{};
};

[[noreturn]] void fail_to_write(const std::filesystem::path& path, int error) {
  const bool full = error == ENOSPC || error == EDQUOT;
  fail(
      path.string(),
      ": cannot write: ",
      std::strerror(error),
      full             ? "; free some space or choose another folder"
      : error == EFBIG ? "; the limit on file sizes (ulimit -f) or of the file system"
                       : "");
}

void sync_or_fail(int descriptor, const std::filesystem::path& path) {
  if (::fsync(descriptor) != 0) {
    fail_to_write(path, errno);
  }
}

} // namespace

std::filesystem::path temporary_path(const std::filesystem::path& path) {
  std::string name(kTemporaryPrefix);
  name += path.filename().string() + "-" + std::to_string(::getpid());
  return path.parent_path() / name;
}

bool is_temporary_name(std::string_view name) {
  return name.substr(0, kTemporaryPrefix.size()) == kTemporaryPrefix;
}

AtomicFile::AtomicFile(std::filesystem::path path)
    : path_(std::move(path)), temporary_(temporary_path(path_)) {
  ::unlink(temporary_.c_str());
  descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (descriptor_ < 0) {
    fail_to_write(path_, errno);
  }
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) {
    ::close(descriptor_);
    ::unlink(temporary_.c_str());
  }
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  const FileSizeSignalBlock block;
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
    if (written < 0 && errno != EINTR) {
      fail_to_write(path_, errno);
    }
    bytes = bytes.subspan(written < 0 ? 0 : static_cast<size_t>(written));
  }
}

void AtomicFile::write(std::string_view text) {
  write(std::as_bytes(std::span(text.data(), text.size())));
}

void AtomicFile::commit() {
  sync_or_fail(descriptor_, path_);
  // Some file systems report a full disk only here.
  if (::close(std::exchange(descriptor_, -1)) != 0 ||
      ::rename(temporary_.c_str(), path_.c_str()) != 0) {
    const int error = errno;
    ::unlink(temporary_.c_str());
    fail_to_write(path_, error);
  }
  sync_folder(path_.parent_path());
}

void write_file_atomically(const std::filesystem::path& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

std::string read_text_file(const std::filesystem::path& path, size_t max_bytes) {
  const MappedFile file(path);
  const auto bytes = file.bytes();
  check(
      bytes.size() <= max_bytes,
      path.string(),
      ": ",
      bytes.size(),
      " bytes; such a file has at most ",
      max_bytes);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

void replace_link(const std::filesystem::path& link, const std::filesystem::path& target) {
  const auto temporary = temporary_path(link);
  ::unlink(temporary.c_str());
  if (::symlink(target.c_str(), temporary.c_str()) != 0) {
    fail_to_write(link, errno);
  }
  if (::rename(temporary.c_str(), link.c_str()) != 0) {
    const int error = errno;
    ::unlink(temporary.c_str());
    fail_to_write(link, error);
  }
  sync_folder(link.parent_path());
}

void sync_folder(const std::filesystem::path& folder) {
  const auto path = folder.empty() ? std::filesystem::path(".") : folder;
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) {
    fail_to_write(path, errno);
  }
  const int result = ::fsync(descriptor);
  const int error = errno;
  ::close(descriptor);
  // Some network file systems cannot sync folders; there is nothing better to do.
  if (result != 0 && error != EINVAL && error != ENOTSUP) {
    fail_to_write(path, error);
  }
}

} // namespace moe
