#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "moe/data/corpus.h"
#include "moe/data/manifest.h"

namespace moe {

/// A source of `prepare_corpus` and what is left out of it.
struct RawSource {
  DataSource source;
  /// Endings of the names that are read, such as `.py`; none for every text file.
  std::vector<std::string> endings = {};
  /// Leaves out test code: folders `test` and `tests`, files `test_*` and `*_test.*`.
  bool skip_tests = false;
  /// Leaves out files of which most lines begin with a quote or a digit.
  bool skip_tables = false;
  /// Leaves out sentences with a larger share of ASCII characters (`without_ascii_sentences`).
  double max_ascii_share = 1;
};

/// How a corpus is made from raw text.
struct PrepareOptions {
  std::vector<RawSource> sources;
  std::string out;
  /// A domain whose paragraphs are left out of the HTML pages of all other domains; empty for
  /// none. For the untranslated parts of translations.
  std::string distinct_from = {};
  /// Put into the manifest, for example the versions of the packages that the text is from.
  std::map<std::string, std::string> notes = {};
  /// Replaces a corpus that is there already. Any other folder is never replaced.
  bool overwrite = false;
};

/// Receives a domain and how many of its documents have been written.
using PrepareProgress = std::function<void(const std::string& domain, int64_t documents)>;

/// Makes a folder of clean text:
/// ```
/// OUT/en/            documents for training: a file per page or file, JSONL for JSONL and for
///                    files that hold several documents
/// OUT/en-heldout/    the documents that are held out by the rule of `Split::held_out`
/// OUT/manifest.json  sizes, what was left out, notes, the SHA-256 of every file
/// ```
/// HTML (`.html`, `.htm`, `.xhtml`) becomes text. Left out are repeated documents, files of
/// less than 100 bytes, and in folders files that are not text and, beside pages, all but
/// pages,
/// `.txt`, `.md` and JSONL. The folder appears complete or not at all; the same text gives the
/// same bytes.
///
/// Throws `Error` as `for_each_document` does, for a domain without text, and where `out` must
/// not be replaced.
Manifest prepare_corpus(const PrepareOptions& options, const PrepareProgress& progress = {});

/// The six demo domains: `en`, `de`, `fr`, `ru` and `ja` from the HTML folder of Debian's
/// package debian-handbook, and `code` from Python's standard library. The Japanese text keeps
/// sentences with at most 5 % of ASCII characters: otherwise a fifth of it were commands, names
/// and English words. Throws `Error` naming the package where a folder is missing.
std::vector<RawSource> demo_sources(const std::string& handbook, const std::string& python);

} // namespace moe
