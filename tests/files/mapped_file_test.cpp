#include "moe/files/mapped_file.h"

#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"

using namespace moe;

TEST_CASE("release_pages: what is read again is what the file says", "[files]") {
  const TemporaryFolder folder;
  const std::string text(5 * 65536, 'a');
  const MappedFile file(folder.write("text", text));
  const auto bytes = file.bytes();
  const auto as_text = [&] {
    return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  };
  for (const size_t place : {size_t{0}, text.size() / 2, text.size() - 1}) {
    bytes[place] = std::byte{'b'};
  }
  CHECK(as_text() != text);
  // Pages that are given back only in part stay as they are.
  release_pages(bytes.subspan(1, text.size() - 2));
  CHECK(bytes[0] == std::byte{'b'});
  CHECK(bytes[text.size() / 2] == std::byte{'a'}); // it was given back indeed
  CHECK(bytes[text.size() - 1] == std::byte{'b'});
  release_pages(bytes.first(3));
  release_pages({});
  release_pages(bytes);
  CHECK(as_text() == text);
}
