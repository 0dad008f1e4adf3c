#pragma once

#include <functional>
#include <vector>

#include "moe/data/document.h"
#include "moe/data/manifest.h"
#include "moe/data/prepare_corpus.h"

namespace moe {

/// What kind of file a raw document comes from.
enum class RawKind {
  html,     ///< a page, now text
  file,     ///< a file of a folder
  fragment, ///< a JSONL line or a block of a file
};

/// Reads the files of `source` as clean text: HTML without its markup, line ends as `\n`.
/// Files that are left out, by the rules of the source or because they are not text, are
/// appended to `skipped`.
///
/// Throws `Error` as `for_each_document` does; a file named `*.txt`, `*.md` or JSONL, or one
/// that is named itself, must be UTF-8.
void for_each_raw_document(
    const RawSource& source,
    std::vector<SkippedFile>& skipped,
    const std::function<void(Document&&, RawKind)>& visit);

} // namespace moe
