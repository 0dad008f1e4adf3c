#pragma once

#include <string>
#include <vector>

#include "moe/data/corpus.h"
#include "moe/data/tokenizer/tokenizer.h"

namespace moe {

/// What `encode_documents` wrote.
struct EncodedCorpus {
  int64_t documents = 0;
  int64_t tokens = 0;
  int64_t text_bytes = 0;
  std::string sha256; ///< of the text, document by document, in hexadecimal
};

/// Writes the documents of `sources` (those of `split`) as a `TokenFile` at `path`. Special
/// tokens in the text are read as ordinary text. Throws `Error` for unreadable text, or none at
/// all.
EncodedCorpus encode_documents(
    const std::vector<DataSource>& sources,
    Split split,
    const Tokenizer& tokenizer,
    const std::string& path);

} // namespace moe
