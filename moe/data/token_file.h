#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace moe {

/// The ids of a sequence of documents, memory-mapped, so that a corpus may be larger than
/// memory. Cheap to copy: copies share the mapping.
///
/// Layout (little endian), written from front to back:
/// ```
/// "MOETOKEN"   u32 version = 1   u32 bytes per id, 2 or 4   u64 vocabulary
/// SHA-256 of the tokenizer's description                              (56 bytes up to here)
/// ids, then zero bytes up to a multiple of 8
/// u64 first token of each document
/// u64 bytes of text up to and including each document
/// u64 tokens   u64 documents   u64 bytes of text   "MOETOKEN"
/// ```
class TokenFile {
 public:
  /// Maps and checks the file: sizes against the file's length, the document table, vocabulary
  /// and tokenizer against the expected ones. `tokenizer` is any text that identifies it (its
  /// `tokenizer.json`). Throws `Error` naming the file, what was found and what would be right.
  TokenFile(const std::string& path, int64_t vocab_size, std::string_view tokenizer);

  const std::string& path() const;
  int64_t vocab_size() const;
  int64_t num_tokens() const;
  int64_t num_documents() const;

  /// Bytes of UTF-8 that the tokens stand for; end-of-text tokens count none.
  int64_t text_bytes() const;

  /// Bytes of text of the documents before `document`, 0 to num_documents().
  int64_t text_bytes_before(int64_t document) const;

  /// Index of the first token of `document`; num_tokens() for num_documents().
  int64_t document_begin(int64_t document) const;

  /// The document that token `token` belongs to, by binary search.
  int64_t document_of(int64_t token) const;

  /// Copies tokens [begin, begin + ids.size()). Throws `Error` for an id outside of the
  /// vocabulary.
  void read(int64_t begin, std::span<int64_t> ids) const;

 private:
  struct Mapping;
  std::shared_ptr<const Mapping> mapping_;
};

/// Writes a `TokenFile` document by document. The file appears under its name only when
/// `finish` has written and synced all of it.
///
/// Example:
/// ```
/// TokenFileWriter writer("en.tokens", vocab_size, tokenizer_json, end_of_text);
/// writer.add(tokenizer.encode(text), text.size());
/// writer.finish();
/// ```
class TokenFileWriter {
 public:
  TokenFileWriter(
      std::string path, int64_t vocab_size, std::string_view tokenizer, int64_t end_of_text);
  ~TokenFileWriter();
  TokenFileWriter(const TokenFileWriter&) = delete;
  TokenFileWriter& operator=(const TokenFileWriter&) = delete;

  /// Appends one document of `text_bytes` bytes and the end-of-text id after it. Throws `Error`
  /// for an id outside of the vocabulary or a failed write.
  void add(std::span<const int64_t> ids, int64_t text_bytes);
  void add(std::span<const int32_t> ids, int64_t text_bytes);

  /// Completes, syncs and renames the file. Nothing may be added after it.
  void finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

} // namespace moe
