#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace moe {

class TokenDecoder;
struct TokenText;
struct TokenizerDefinition;

/// The text of the end-of-document token of every tokenizer made here; it has the last id.
inline constexpr std::string_view kEndOfText = "<|endoftext|>";

/// Calls its argument once for every document to train on.
using DocumentSource = std::function<void(const std::function<void(std::string_view)>&)>;

/// Turns text into token ids and back.
///
/// A value: copies are cheap, share one immutable vocabulary and may be used by several
/// threads at once. Text is bytes: invalid UTF-8 is encoded, too, and byte-level tokenizers
/// give the same bytes back.
///
/// Example:
/// ```
/// const auto tokenizer = Tokenizer::train_bpe(documents, /*vocab_size=*/8192);
/// std::vector<int32_t> ids = tokenizer.encode_ordinary("Hello, world!");
/// std::string text = tokenizer.decode(ids); // "Hello, world!"
/// tokenizer.save("model/tokenizer.json");
/// ```
class Tokenizer {
 public:
  /// 256 ids, one per byte value, and `<|endoftext|>` as id 256.
  static Tokenizer bytes();

  /// One id per distinct character of `texts`, by code point, and `<|endoftext|>` last. The
  /// character U+FFFD is always among them and stands for every character (and every invalid
  /// part) that is not.
  static Tokenizer characters(const std::vector<std::string_view>& texts);

  /// Byte-level BPE with Qwen2's pattern: digits one at a time, no normaliser, so any bytes
  /// come back unchanged. `vocab_size` counts the 256 bytes and `<|endoftext|>` (the last
  /// id). It gets smaller when the documents hold too few pairs that occur twice. The same
  /// documents give the same tokenizer, in any order.
  ///
  /// Throws `Error` unless `vocab_size` >= 257.
  static Tokenizer train_bpe(
      const std::vector<std::string_view>& documents, int64_t vocab_size);

  /// Reads a `tokenizer.json`, or the one in a folder. There tokens that
  /// `tokenizer_config.json` names are special, as they are for transformers' `AutoTokenizer`.
  ///
  /// Supported is BPE over bytes or over characters with `byte_fallback`, with the normalisers,
  /// pre-tokenizers, added tokens and decoders of the families with such a model: text gives
  /// the ids that Hugging Face's library gives. Throws `Error` that names the file and the
  /// fault when it is damaged, or the part that is not supported. SentencePiece files
  /// (`tokenizer.model`) are not read.
  static Tokenizer load(const std::filesystem::path& file_or_folder);

  /// The same from the text of a `tokenizer.json`; `name` is what errors call it.
  static Tokenizer from_json(std::string_view json, const std::string& name);

  /// The same tokenizer with these special tokens, too; those that it lacks get the ids from
  /// `vocab_size()` on. No other text is cut otherwise than before.
  Tokenizer with_added_tokens(const std::vector<std::string>& tokens) const;

  /// Writes a `tokenizer.json`. Hugging Face's `tokenizers` reads it and gives the same ids
  /// on every valid UTF-8 text. Throws `Error` when it cannot be written.
  void save(const std::filesystem::path& file) const;

  /// The text that `save` writes.
  std::string to_json() const;

  /// Ids of `text`, in which added and special tokens are recognised: what Hugging Face's
  /// `encode(text, add_special_tokens=False)` gives. For text that may contain
  /// `<|endoftext|>` by accident or malice use `encode_ordinary`.
  std::vector<int32_t> encode(std::string_view text) const;

  /// Ids of `text` in which special tokens are read as ordinary text: tokenizers made here
  /// never give `end_of_text()` then. For training data and other text from outside.
  std::vector<int32_t> encode_ordinary(std::string_view text) const;

  /// `ids` with what the file's post-processor puts around a text (often a token that begins
  /// it): what Hugging Face's `encode(text, add_special_tokens=True)` gives.
  std::vector<int32_t> with_special_tokens(std::vector<int32_t> ids) const;

  /// Text of `ids`: valid UTF-8, with one U+FFFD for each maximal invalid part, or for each
  /// byte of a run of tokens `<0xNN>` that is invalid. `skip_special` leaves special tokens
  /// out. Throws `Error` on an id without a token.
  std::string decode(std::span<const int32_t> ids, bool skip_special = false) const;

  /// The same as the bytes that they are: for byte-level tokenizers exactly what was encoded,
  /// also where that was not valid UTF-8.
  std::string decode_bytes(std::span<const int32_t> ids, bool skip_special = false) const;

  /// The bytes that token `id` adds to a decoded text where it is not the first: not always
  /// whole characters. Throws `Error` on an id without a token.
  const std::string& token_bytes(int32_t id) const;

  /// For `StreamDecoder`: what a token adds, and how these are joined.
  const TokenText& token_text(int32_t id) const;
  const TokenDecoder& token_decoder() const;

  /// The id of the token that is written as `token` in `tokenizer.json`, if there is one.
  std::optional<int32_t> token_id(std::string_view token) const;

  /// Whether there is a token `id`: models may have more ids than their tokenizer.
  bool has_token(int32_t id) const;

  /// Whether `id` is a special token. Throws `Error` on an id without a token.
  bool is_special(int32_t id) const;

  /// One more than the highest id.
  int64_t vocab_size() const;

  /// The id that ends a document: the special token `<|endoftext|>`, or in files that lack it
  /// the first of `<|end_of_text|>`, `</s>`, `<eos>`, `<｜end▁of▁sentence｜>`, or else the
  /// `eos_token` of `tokenizer_config.json`.
  std::optional<int32_t> end_of_text() const;

 private:
  struct Impl;
  friend Tokenizer make_tokenizer(const std::string&, const DocumentSource&);
  static Tokenizer from_definition(TokenizerDefinition definition, const std::string& name);
  explicit Tokenizer(std::shared_ptr<const Impl> impl);
  std::shared_ptr<const Impl> impl_;
};

/// Makes a tokenizer from what a user writes: `bytes`, `chars`, `bpe:8192` (a vocabulary
/// size), or the path of a `tokenizer.json` or of a folder that has one. Only `chars` and
/// `bpe` read `documents`, once.
///
/// Throws `Error` on anything else.
Tokenizer make_tokenizer(const std::string& spec, const DocumentSource& documents);

} // namespace moe
