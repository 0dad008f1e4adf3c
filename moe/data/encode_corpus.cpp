#include "moe/data/encode_corpus.h"

#include "moe/data/sha256.h"
#include "moe/data/token_file.h"
#include "moe/error.h"

namespace moe {

EncodedCorpus encode_documents(
    const std::vector<DataSource>& sources,
    Split split,
    const Tokenizer& tokenizer,
    const std::string& path) {
  const auto end_of_text = tokenizer.end_of_text();
  check(
      end_of_text.has_value(), "tokenizer: it has no end-of-text token to separate documents");
  EncodedCorpus corpus;
  Sha256 hash;
  TokenFileWriter writer(path, tokenizer.vocab_size(), tokenizer.to_json(), *end_of_text);
  for (const auto& source : sources) {
    for_each_document(source, split, [&](const Document& document) {
      const auto ids = tokenizer.encode_ordinary(document.text);
      writer.add(ids, static_cast<int64_t>(document.text.size()));
      hash.update(document.text);
      hash.update(std::string_view("\0", 1));
      ++corpus.documents;
      corpus.tokens += static_cast<int64_t>(ids.size()) + 1;
      corpus.text_bytes += static_cast<int64_t>(document.text.size());
    });
  }
  if (corpus.documents == 0 && split == Split::held_out) {
    // Only one short document: its last 5 % are less than a word.
    fail(
        "data: the text of '",
        sources.empty() ? "" : sources.front().domain,
        "' is too short to hold out 5 % of it; give more text, or val_data");
  }
  writer.finish();
  corpus.sha256 = to_hex(hash.digest());
  return corpus;
}

} // namespace moe
