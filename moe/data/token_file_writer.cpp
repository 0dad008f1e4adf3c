#include <cstring>
#include <limits>
#include <vector>

#include "moe/data/sha256.h"
#include "moe/data/token_file.h"
#include "moe/data/token_file_internal.h"
#include "moe/error.h"
#include "moe/files/atomic_file.h"

namespace moe {
namespace {

constexpr int64_t kLargestVocabulary = std::numeric_limits<int32_t>::max();
constexpr size_t kBufferBytes = 1 << 20;

} // namespace

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
  impl_->id_bytes = token_id_bytes(vocab_size);
  TokenFileHeader header{};
  std::memcpy(header.magic, kTokenFileMagic.data(), sizeof(header.magic));
  header.version = kTokenFileVersion;
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
  const uint64_t written = sizeof(TokenFileHeader) + impl_->num_tokens * impl_->id_bytes;
  impl_->append("\0\0\0\0\0\0\0", token_file_padded(written) - written);
  impl_->append(impl_->begins.data(), impl_->begins.size() * sizeof(uint64_t));
  impl_->append(impl_->text_ends.data(), impl_->text_ends.size() * sizeof(uint64_t));
  TokenFileFooter footer{impl_->num_tokens, impl_->begins.size(), impl_->text_bytes, {}};
  std::memcpy(footer.magic, kTokenFileMagic.data(), sizeof(footer.magic));
  impl_->append(&footer, sizeof(footer));
  impl_->flush();
  impl_->file.commit();
  impl_->finished = true;
}

} // namespace moe
