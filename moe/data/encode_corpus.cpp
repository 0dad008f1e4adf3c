#include "moe/data/encode_corpus.h"

#include <algorithm>
#include <filesystem>

#include "moe/data/sha256.h"
#include "moe/data/token_file.h"
#include "moe/error.h"

namespace moe {

namespace {

constexpr const char* kRepliesName = "replies";
constexpr int64_t kRepliesVocabulary = 2;

/// Writes the tokens of documents, and of conversations what is said by whom.
class TokenWriter {
 public:
  TokenWriter(
      const Tokenizer& tokenizer,
      const std::string& path,
      int32_t end_of_text,
      const std::optional<ChatFormat>& chat)
      : tokenizer_(tokenizer),
        chat_(chat),
        path_(path),
        writer_(path, tokenizer.vocab_size(), tokenizer.to_json(), end_of_text) {}

  /// Returns the number of tokens.
  int64_t add(const Document& document) {
    const auto where = document.path + ": document " + std::to_string(document.number + 1);
    if (!document.messages.empty()) {
      check(
          chat_.has_value(),
          where,
          " is a conversation, and the tokenizer's folder does not say how turns are written; "
          "moe-convert IN OUT --chat-format chatml makes a folder that does, and chat_format "
          "takes ",
          chat_format_names());
      try {
        return add_conversation(document);
      } catch (const Error& error) {
        fail(where, ": ", error.what());
      }
    }
    check(!replies_, where, " is a text; texts and conversations need domains of their own");
    has_text_ = true;
    const auto ids = tokenizer_.encode_ordinary(document.text);
    writer_.add(ids, static_cast<int64_t>(document.text.size()));
    return static_cast<int64_t>(ids.size());
  }

  int64_t reply_tokens() const {
    return reply_tokens_;
  }

  void finish() {
    writer_.finish();
    if (replies_) {
      replies_->finish();
    }
  }

 private:
  int64_t add_conversation(const Document& document) {
    check(
        !has_text_,
        "it is a conversation after texts; texts and conversations need domains of their own");
    if (!replies_) {
      replies_.emplace(
          replies_path(path_), kRepliesVocabulary, kRepliesName, /*end_of_text=*/0);
    }
    const auto tokens =
        encode_chat(*chat_, tokenizer_, document.messages, /*add_reply_header=*/false);
    const std::vector<int32_t> replies(tokens.is_reply.begin(), tokens.is_reply.end());
    int64_t reply_bytes = 0;
    bool has_reply = false;
    for (const auto& message : document.messages) {
      if (message.role == "assistant") {
        reply_bytes += static_cast<int64_t>(message.content.size());
        has_reply = true;
      }
    }
    check(
        reply_bytes > 0,
        "there is nothing to learn, ",
        has_reply ? "what the assistant says is empty"
                  : "no turn is the assistant's (role assistant)");
    writer_.add(tokens.ids, static_cast<int64_t>(document.text.size()));
    replies_->add(replies, reply_bytes);
    reply_tokens_ += std::count(replies.begin(), replies.end(), 1);
    return static_cast<int64_t>(tokens.ids.size());
  }

  const Tokenizer& tokenizer_;
  const std::optional<ChatFormat>& chat_;
  std::string path_;
  TokenFileWriter writer_;
  std::optional<TokenFileWriter> replies_;
  int64_t reply_tokens_ = 0;
  bool has_text_ = false;
};

} // namespace

std::string replies_path(const std::string& token_path) {
  return token_path + ".replies";
}

std::optional<TokenFile> open_replies(const std::string& token_path) {
  const auto path = replies_path(token_path);
  std::error_code error;
  if (!std::filesystem::exists(path, error)) {
    return std::nullopt;
  }
  return TokenFile(path, kRepliesVocabulary, kRepliesName);
}

EncodedCorpus encode_documents(
    const std::vector<DataSource>& sources,
    Split split,
    const Tokenizer& tokenizer,
    const std::string& path,
    const std::optional<ChatFormat>& chat) {
  const auto end_of_text = tokenizer.end_of_text();
  check(
      end_of_text.has_value(), "tokenizer: it has no end-of-text token to separate documents");
  EncodedCorpus corpus;
  Sha256 hash;
  std::filesystem::remove(replies_path(path)); // of an earlier text
  TokenWriter writer(tokenizer, path, *end_of_text, chat);
  for (const auto& source : sources) {
    for_each_document(source, split, [&](const Document& document) {
      corpus.tokens += writer.add(document) + 1;
      hash.update(document.text);
      hash.update(std::string_view("\0", 1));
      ++corpus.documents;
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
  corpus.reply_tokens = writer.reply_tokens();
  corpus.sha256 = to_hex(hash.digest());
  return corpus;
}

} // namespace moe
