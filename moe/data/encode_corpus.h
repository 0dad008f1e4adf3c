#pragma once

#include <optional>
#include <string>
#include <vector>

#include "moe/data/chat/chat_format.h"
#include "moe/data/corpus.h"
#include "moe/data/token_file.h"
#include "moe/data/tokenizer/tokenizer.h"

namespace moe {

/// What `encode_documents` wrote.
struct EncodedCorpus {
  int64_t documents = 0;
  int64_t tokens = 0;
  int64_t reply_tokens = 0; ///< of conversations: those that the assistant says
  int64_t text_bytes = 0;
  std::string sha256; ///< of the text, document by document, in hexadecimal
};

/// Where `encode_documents` writes which tokens of conversations the assistant says.
std::string replies_path(const std::string& token_path);

/// The file that is there; nothing if the tokens at `token_path` are no conversations.
std::optional<TokenFile> open_replies(const std::string& token_path);

/// Writes the documents of `sources` (those of `split`) as a `TokenFile` at `path`. Special
/// tokens in the text are read as ordinary text. Conversations are written in the turns of
/// `chat`, and beside them, at `replies_path(path)`, a `TokenFile` with 1 for each token that
/// the assistant says and 0 for the others; its bytes are those of the replies. Throws `Error`
/// for unreadable text, none at all, texts among conversations, or conversations without
/// `chat`.
EncodedCorpus encode_documents(
    const std::vector<DataSource>& sources,
    Split split,
    const Tokenizer& tokenizer,
    const std::string& path,
    const std::optional<ChatFormat>& chat = std::nullopt);

} // namespace moe
