#include "moe/data/token_file.h"

#include <algorithm>
#include <cstring>

#include "moe/data/sha256.h"
#include "moe/data/token_file_internal.h"
#include "moe/error.h"
#include "moe/files/mapped_file.h"

namespace moe {
namespace {

template <class Value>
Value value_at(std::span<const std::byte> bytes, size_t offset) {
  Value value;
  std::memcpy(&value, bytes.data() + offset, sizeof(Value));
  return value;
}

TokenFileHeader checked_header(
    const std::string& path,
    std::span<const std::byte> bytes,
    int64_t vocab_size,
    std::string_view tokenizer) {
  check(
      bytes.size() >= sizeof(TokenFileHeader) + sizeof(TokenFileFooter),
      path,
      ": ",
      bytes.size(),
      " bytes are too few for a token file");
  const auto header = value_at<TokenFileHeader>(bytes, 0);
  check(
      std::string_view(header.magic, 8) == kTokenFileMagic,
      path,
      ": not a token file (it must begin with ",
      kTokenFileMagic,
      ")");
  check(
      header.version == kTokenFileVersion,
      path,
      ": version ",
      header.version,
      " of the token file format is not known; this program reads version ",
      kTokenFileVersion);
  check(
      header.vocab_size == static_cast<uint64_t>(vocab_size),
      path,
      ": made for a vocabulary of ",
      header.vocab_size,
      " ids, the tokenizer has ",
      vocab_size);
  check(
      header.tokenizer == sha256(tokenizer),
      path,
      ": made with another tokenizer; encode the text again with this one");
  check(
      header.bytes_per_id == token_id_bytes(vocab_size),
      path,
      ": ",
      header.bytes_per_id,
      " bytes per id, expected ",
      token_id_bytes(vocab_size),
      " for ",
      vocab_size,
      " ids");
  return header;
}

TokenFileFooter checked_footer(
    const std::string& path, std::span<const std::byte> bytes, const TokenFileHeader& header) {
  const auto footer = value_at<TokenFileFooter>(bytes, bytes.size() - sizeof(TokenFileFooter));
  check(
      std::string_view(footer.magic, 8) == kTokenFileMagic,
      path,
      ": the end is missing or damaged (it must end with ",
      kTokenFileMagic,
      ")");
  check(
      footer.documents >= 1 && footer.documents <= footer.tokens &&
          footer.tokens <= bytes.size() / header.bytes_per_id &&
          footer.documents <= bytes.size() / 16,
      path,
      ": damaged: ",
      footer.tokens,
      " tokens in ",
      footer.documents,
      " documents cannot lie in ",
      bytes.size(),
      " bytes");
  const uint64_t expected =
      token_file_padded(sizeof(TokenFileHeader) + footer.tokens * header.bytes_per_id) +
      footer.documents * 16 + sizeof(TokenFileFooter);
  check(
      bytes.size() == expected,
      path,
      ": ",
      bytes.size(),
      " bytes, expected ",
      expected,
      " for ",
      footer.tokens,
      " tokens in ",
      footer.documents,
      " documents");
  return footer;
}

} // namespace

struct TokenFile::Mapping {
  explicit Mapping(std::string name) : path(std::move(name)), file(path) {}

  void check_documents() const;

  template <class Id>
  void read(size_t begin, std::span<int64_t> to) const;

  std::string path;
  MappedFile file;
  int64_t vocab_size = 0;
  uint32_t bytes_per_id = 0;
  int64_t num_tokens = 0;
  int64_t text_bytes = 0;
  const std::byte* ids = nullptr;
  std::span<const uint64_t> begins;    // [documents]
  std::span<const uint64_t> text_ends; // [documents]
};

void TokenFile::Mapping::check_documents() const {
  for (size_t i = 0; i < begins.size(); ++i) {
    const bool begin_valid =
        i == 0 ? begins[0] == 0
               : begins[i] > begins[i - 1] && begins[i] < static_cast<uint64_t>(num_tokens);
    const bool end_valid = text_ends[i] >= (i == 0 ? 0 : text_ends[i - 1]);
    check(
        begin_valid && end_valid,
        path,
        ": damaged: document ",
        i,
        " begins at token ",
        begins[i],
        " of ",
        num_tokens,
        " and ends at text byte ",
        text_ends[i]);
  }
  check(
      text_bytes >= 0 && text_ends.back() == static_cast<uint64_t>(text_bytes),
      path,
      ": damaged: the documents have ",
      text_ends.back(),
      " bytes of text, the file's end says ",
      text_bytes);
}

template <class Id>
void TokenFile::Mapping::read(size_t begin, std::span<int64_t> to) const {
  const std::byte* source = ids + begin * sizeof(Id);
  for (size_t i = 0; i < to.size(); ++i) {
    Id id;
    std::memcpy(&id, source + i * sizeof(Id), sizeof(Id));
    to[i] = id;
    if (to[i] >= vocab_size) {
      fail(
          path,
          ": damaged: token ",
          begin + i,
          " is ",
          to[i],
          ", the vocabulary has ",
          vocab_size,
          " ids");
    }
  }
}

TokenFile::TokenFile(const std::string& path, int64_t vocab_size, std::string_view tokenizer) {
  auto mapping = std::make_shared<Mapping>(path);
  const std::span<const std::byte> bytes = mapping->file.bytes();
  const auto header = checked_header(path, bytes, vocab_size, tokenizer);
  const auto footer = checked_footer(path, bytes, header);
  const auto* table = reinterpret_cast<const uint64_t*>(
      bytes.data() + bytes.size() - sizeof(TokenFileFooter) - footer.documents * 16);
  mapping->vocab_size = vocab_size;
  mapping->bytes_per_id = header.bytes_per_id;
  mapping->num_tokens = static_cast<int64_t>(footer.tokens);
  mapping->text_bytes = static_cast<int64_t>(footer.text_bytes);
  mapping->ids = bytes.data() + sizeof(TokenFileHeader);
  mapping->begins = {table, footer.documents};
  mapping->text_ends = {table + footer.documents, footer.documents};
  mapping->check_documents();
  mapping_ = std::move(mapping);
}

const std::string& TokenFile::path() const {
  return mapping_->path;
}

int64_t TokenFile::vocab_size() const {
  return mapping_->vocab_size;
}

int64_t TokenFile::num_tokens() const {
  return mapping_->num_tokens;
}

int64_t TokenFile::num_documents() const {
  return static_cast<int64_t>(mapping_->begins.size());
}

int64_t TokenFile::text_bytes() const {
  return mapping_->text_bytes;
}

int64_t TokenFile::text_bytes_before(int64_t document) const {
  check(
      document >= 0 && document <= num_documents(),
      path(),
      ": no document ",
      document,
      " of ",
      num_documents());
  return document == 0
             ? 0
             : static_cast<int64_t>(mapping_->text_ends[static_cast<size_t>(document - 1)]);
}

int64_t TokenFile::document_begin(int64_t document) const {
  check(
      document >= 0 && document <= num_documents(),
      path(),
      ": no document ",
      document,
      " of ",
      num_documents());
  return document == num_documents()
             ? num_tokens()
             : static_cast<int64_t>(mapping_->begins[static_cast<size_t>(document)]);
}

int64_t TokenFile::document_of(int64_t token) const {
  check(token >= 0 && token < num_tokens(), path(), ": no token ", token, " of ", num_tokens());
  const auto& begins = mapping_->begins;
  const auto next =
      std::upper_bound(begins.begin(), begins.end(), static_cast<uint64_t>(token));
  return next - begins.begin() - 1;
}

void TokenFile::read(int64_t begin, std::span<int64_t> ids) const {
  const auto count = static_cast<int64_t>(ids.size());
  check(
      begin >= 0 && begin <= num_tokens() && count <= num_tokens() - begin,
      path(),
      ": no tokens ",
      begin,
      " to ",
      begin + count,
      " of ",
      num_tokens());
  if (mapping_->bytes_per_id == 2) {
    mapping_->read<uint16_t>(static_cast<size_t>(begin), ids);
  } else {
    mapping_->read<uint32_t>(static_cast<size_t>(begin), ids);
  }
}

} // namespace moe
