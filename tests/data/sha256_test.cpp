#include "moe/data/sha256.h"

#include "tests/support/catch.h"

using namespace moe;

TEST_CASE("SHA-256 gives the digests of the standard's examples", "[data]") {
  CHECK(
      to_hex(sha256("")) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(
      to_hex(sha256("abc")) ==
      "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(
      to_hex(sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")) ==
      "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  CHECK(
      to_hex(sha256(std::string(1000000, 'a'))) ==
      "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST_CASE("SHA-256 of a stream does not depend on how it is cut", "[data]") {
  std::string text;
  for (int i = 0; i < 300; ++i) {
    text += static_cast<char>(i * 7);
  }
  for (size_t size = 0; size <= text.size(); ++size) {
    Sha256 hash;
    hash.update(std::string_view(text).substr(0, size));
    hash.update(std::string_view(text).substr(size));
    CAPTURE(size);
    CHECK(hash.digest() == sha256(text));
  }
}
