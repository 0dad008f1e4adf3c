#include "moe/data/token_file.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <vector>

#include "moe/checkpoint/atomic_file.h"
#include "moe/checkpoint/mapped_file.h"
#include "moe/data/sha256.h"
#include "moe/error.h"

static_assert(std::endian::native == std::endian::little, "token files are little endian");

namespace moe {
namespace {

constexpr std::string_view kMagic = "MOETOKEN";
constexpr uint32_t kVersion = 1;
constexpr int64_t kLargestVocabulary = std::numeric_limits<int32_t>::max();
constexpr size_t kBufferBytes = 1 << 20;

struct Header {
  char magic[8];
  uint32_t version;
  uint32_t bytes_per_id;
  uint64_t vocab_size;
  Sha256::Digest tokenizer;
};
static_assert(sizeof(Header) == 56);

struct Footer {
  uint64_t tokens;
  uint64_t documents;
  uint64_t text_bytes;
  char magic[8];
};
static_assert(sizeof(Footer) == 32);

uint32_t bytes_per_id(int64_t vocab_size) {
  return vocab_size <= 65536 ? 2 : 4;
}

uint64_t padded(uint64_t bytes) {
  return (bytes + 7) / 8 * 8;
}

template <class Value>
Value value_at(std::span<const std::byte> bytes, size_t offset) {
  Value value;
  std::memcpy(&value, bytes.data() + offset, sizeof(Value));
  return value;
}

Header checked_header(
    const std::string& path,
    std::span<const std::byte> bytes,
    int64_t vocab_size,
    std::string_view tokenizer) {
  check(
      bytes.size() >= sizeof(Header) + sizeof(Footer),
      path,
      ": ",
      bytes.size(),
      " bytes are too few for a token file");
  const auto header = value_at<Header>(bytes, 0);
  check(
      std::string_view(header.magic, 8) == kMagic,
      path,
      ": not a token file (it must begin with ",
      kMagic,
      ")");
  check(
      header.version == kVersion,
      path,
      ": version ",
      header.version,
      " of the token file format is not known; this program reads version ",
      kVersion);
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
      header.bytes_per_id == bytes_per_id(vocab_size),
      path,
      ": ",
      header.bytes_per_id,
      " bytes per id, expected ",
      bytes_per_id(vocab_size),
      " for ",
      vocab_size,
      " ids");
  return header;
}

Footer checked_footer(
    const std::string& path, std::span<const std::byte> bytes, const Header& header) {
  const auto footer = value_at<Footer>(bytes, bytes.size() - sizeof(Footer));
  check(
      std::string_view(footer.magic, 8) == kMagic,
      path,
      ": the end is missing or damaged (it must end with ",
      kMagic,
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
  const uint64_t expected = padded(sizeof(Header) + footer.tokens * header.bytes_per_id) +
                            footer.documents * 16 + sizeof(Footer);
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
      bytes.data() + bytes.size() - sizeof(Footer) - footer.documents * 16);
  mapping->vocab_size = vocab_size;
  mapping->bytes_per_id = header.bytes_per_id;
  mapping->num_tokens = static_cast<int64_t>(footer.tokens);
  mapping->text_bytes = static_cast<int64_t>(footer.text_bytes);
  mapping->ids = bytes.data() + sizeof(Header);
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

struct TokenFileWriter::Impl {
  explicit Impl(const std::string& name) : path(name), file(name) {
    buffer.reserve(kBufferBytes + 8);
  }

  void append(const void* data, size_t size) {
    const auto* begin = static_cast<const char*>(data);
    buffer.append(begin, size);
    if (buffer.size() >= kBufferBytes) {
      flush();
    }
  }

  void append_id(int64_t id) {
    check(id >= 0 && id < vocab_size, path, ": id ", id, " is not in [0, ", vocab_size, ")");
    append(&id, id_bytes); // little endian: the low bytes come first
    ++num_tokens;
  }

  void flush() {
    file.write(std::string_view(buffer));
    buffer.clear();
  }

  template <class Id>
  void add(std::span<const Id> ids, int64_t bytes) {
    check(!finished, path, ": a finished token file takes no documents");
    check(bytes >= 0, path, ": a document of ", bytes, " bytes");
    begins.push_back(num_tokens);
    for (const Id id : ids) {
      append_id(id);
    }
    append_id(end_of_text);
    text_bytes += static_cast<uint64_t>(bytes);
    text_ends.push_back(text_bytes);
  }

  std::string path;
  AtomicFile file;
  std::string buffer;
  int64_t vocab_size = 0;
  int64_t end_of_text = 0;
  uint32_t id_bytes = 0;
  uint64_t num_tokens = 0;
  uint64_t text_bytes = 0;
  std::vector<uint64_t> begins;
  std::vector<uint64_t> text_ends;
  bool finished = false;
};

TokenFileWriter::TokenFileWriter(
    std::string path, int64_t vocab_size, std::string_view tokenizer, int64_t end_of_text) {
  check(
      vocab_size >= 1 && vocab_size <= kLargestVocabulary,
      path,
      ": a vocabulary of ",
      vocab_size,
      " ids; it must have 1 to ",
      kLargestVocabulary);
  check(
      end_of_text >= 0 && end_of_text < vocab_size,
      path,
      ": the end-of-text id ",
      end_of_text,
      " is not in [0, ",
      vocab_size,
      ")");
  impl_ = std::make_unique<Impl>(path);
  impl_->vocab_size = vocab_size;
  impl_->end_of_text = end_of_text;
  impl_->id_bytes = bytes_per_id(vocab_size);
  Header header{};
  std::memcpy(header.magic, kMagic.data(), sizeof(header.magic));
  header.version = kVersion;
  header.bytes_per_id = impl_->id_bytes;
  header.vocab_size = static_cast<uint64_t>(vocab_size);
  header.tokenizer = sha256(tokenizer);
  impl_->append(&header, sizeof(header));
}

TokenFileWriter::~TokenFileWriter() = default;

void TokenFileWriter::add(std::span<const int64_t> ids, int64_t text_bytes) {
  impl_->add(ids, text_bytes);
}

void TokenFileWriter::add(std::span<const int32_t> ids, int64_t text_bytes) {
  impl_->add(ids, text_bytes);
}

void TokenFileWriter::finish() {
  check(!impl_->finished, impl_->path, ": this token file is finished already");
  check(!impl_->begins.empty(), impl_->path, ": a token file needs at least one document");
  const uint64_t written = sizeof(Header) + impl_->num_tokens * impl_->id_bytes;
  impl_->append("\0\0\0\0\0\0\0", padded(written) - written);
  impl_->append(impl_->begins.data(), impl_->begins.size() * sizeof(uint64_t));
  impl_->append(impl_->text_ends.data(), impl_->text_ends.size() * sizeof(uint64_t));
  Footer footer{impl_->num_tokens, impl_->begins.size(), impl_->text_bytes, {}};
  std::memcpy(footer.magic, kMagic.data(), sizeof(footer.magic));
  impl_->append(&footer, sizeof(footer));
  impl_->flush();
  impl_->file.commit();
  impl_->finished = true;
}

} // namespace moe
