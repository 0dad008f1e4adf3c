#include "apps/output.h"

#include <unistd.h>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include "moe/error.h"

namespace moe {

void write_stdout(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(STDOUT_FILENO, text.data(), text.size());
    if (written >= 0) {
      text.remove_prefix(static_cast<size_t>(written));
    } else if (errno == EPIPE) {
      throw OutputClosed();
    } else if (errno != EINTR) {
      fail("stdout: cannot write: ", std::strerror(errno));
    }
  }
}

} // namespace moe
