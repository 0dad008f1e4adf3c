#include "moe/data/known_paragraphs.h"

#include "tests/support/catch.h"

using namespace moe;

TEST_CASE("KnownParagraphs leaves out what was added, and what is mostly that", "[data]") {
  KnownParagraphs known;
  known.add(
      "Title\n\nThe package manager installs software from the archive.\n\n$ apt update\n");
  CHECK(
      known.without_known("Titel\n\nThe package manager installs software from the archive.\n\n"
                          "Ein ganz anderer Absatz mit Text.\n\n$ apt update\n") ==
      "Titel\n\nEin ganz anderer Absatz mit Text.\n");
  CHECK(
      known.without_known("The package manager installs software from the archive (Kapitel 3).")
          .empty());
  CHECK(
      known.without_known("The package manager installiert Programme aus dem Archiv.") ==
      "The package manager installiert Programme aus dem Archiv.\n");
  CHECK(known.without_known("Title").empty());
  CHECK(known.without_known("").empty());
}

TEST_CASE("KnownParagraphs keeps everything when nothing was added", "[data]") {
  CHECK(KnownParagraphs().without_known("a b\n\nc\n") == "a b\n\nc\n");
}
