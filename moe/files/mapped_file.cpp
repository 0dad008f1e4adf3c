#include "moe/files/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "moe/error.h"

namespace moe {
namespace {

// A descriptor that is closed at the end of the scope; the mapping does not need it.
struct Descriptor {
  int number;
  ~Descriptor() {
    if (number >= 0) {
      ::close(number);
    }
  }
};

} // namespace

MappedFile::MappedFile(const std::filesystem::path& path) {
  // O_NONBLOCK: opening a pipe must not wait for a writer.
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  check(file.number >= 0, path.string(), ": cannot open: ", std::strerror(errno));
  struct stat status {};
  check(
      ::fstat(file.number, &status) == 0,
      path.string(),
      ": cannot read: ",
      std::strerror(errno));
  check(!S_ISDIR(status.st_mode), path.string(), ": is a folder, not a file");
  check(S_ISREG(status.st_mode), path.string(), ": is not a regular file");
  size_ = static_cast<size_t>(status.st_size);
  if (size_ == 0) {
    return;
  }
  // Private and writable: whoever changes the memory gets a page of his own.
  void* data = ::mmap(
      nullptr,
      size_,
      PROT_READ | PROT_WRITE,
      MAP_PRIVATE | MAP_NORESERVE,
      file.number,
      /*offset=*/0);
  check(data != MAP_FAILED, path.string(), ": cannot map: ", std::strerror(errno));
  data_ = std::shared_ptr<std::byte>(
      static_cast<std::byte*>(data),
      [size = size_](std::byte* bytes) { ::munmap(bytes, size); });
}

std::span<std::byte> MappedFile::bytes() const {
  return {data_.get(), size_};
}

std::shared_ptr<void> MappedFile::owner() const {
  return data_;
}

void release_pages(std::span<const std::byte> bytes) {
  static const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto address = reinterpret_cast<uintptr_t>(bytes.data());
  const auto begin = (address + page - 1) / page * page;
  const auto end = (address + bytes.size()) / page * page;
  if (begin < end) {
    // A failure would cost memory, nothing else.
    ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
  }
}

} // namespace moe
