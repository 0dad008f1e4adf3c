#include "moe/data/tokenizer/tokenizer.h"

#include <algorithm>
#include <charconv>
#include <mutex>
#include <unordered_map>

#include "moe/data/tokenizer/added_tokens.h"
#include "moe/data/tokenizer/bpe_model.h"
#include "moe/data/tokenizer/bpe_trainer.h"
#include "moe/data/tokenizer/byte_level.h"
#include "moe/data/tokenizer/normalizer.h"
#include "moe/data/tokenizer/pre_tokenizer.h"
#include "moe/data/tokenizer/token_decoder.h"
#include "moe/data/tokenizer/tokenizer_config.h"
#include "moe/data/tokenizer/tokenizer_json.h"
#include "moe/data/utf8.h"
#include "moe/error.h"
#include "moe/files/atomic_file.h"

namespace moe {
namespace {

/// Added tokens that end a document in some family, the likeliest first.
constexpr std::string_view kEndTokens[] = {
    kEndOfText, "<|end_of_text|>", "</s>", "<eos>", "<｜end▁of▁sentence｜>"};

std::vector<AddedToken> select(const std::vector<AddedToken>& tokens, bool normalized) {
  std::vector<AddedToken> selected;
  std::copy_if(
      tokens.begin(), tokens.end(), std::back_inserter(selected), [&](const auto& token) {
        return token.normalized == normalized && !token.content.empty();
      });
  return selected;
}

/// Tokens as they are written in normalised text, if they are searched for there.
std::vector<AddedToken> normalized_tokens(
    std::vector<AddedToken> tokens, const Normalizer& normalizer) {
  for (auto& token : tokens) {
    if (!token.normalized || normalizer.empty()) {
      continue;
    }
    token.content = normalizer.apply(token.content);
  }
  return tokens;
}

void add_end_of_text(TokenizerDefinition& definition) {
  const auto id = static_cast<int32_t>(definition.model.vocabulary.size());
  definition.added_tokens.push_back({id, std::string(kEndOfText), /*special=*/true});
}

/// Collects the characters of texts.
class CharacterSet {
 public:
  CharacterSet() : is_present_(0x110000) {
    is_present_[0xFFFD] = true;
  }

  void add(std::string_view text) {
    while (!text.empty()) {
      const auto step = next_utf8(text);
      is_present_[step.code_point] = true;
      text.remove_prefix(step.length);
    }
  }

  TokenizerDefinition definition() const {
    TokenizerDefinition result;
    result.byte_level = false;
    result.decoder[0].kind = DecoderStep::Kind::fuse;
    for (char32_t code_point = 0; code_point < is_present_.size(); ++code_point) {
      if (!is_present_[code_point]) {
        continue;
      }
      const auto id = static_cast<int32_t>(result.model.vocabulary.size());
      result.model.vocabulary.push_back({"", id});
      append_utf8(result.model.vocabulary.back().token, code_point);
      if (code_point == 0xFFFD) {
        result.model.unknown = id;
      }
    }
    add_end_of_text(result);
    return result;
  }

 private:
  std::vector<bool> is_present_;
};

TokenizerDefinition train(const BpeTrainer& trainer, int64_t vocab_size) {
  check(
      vocab_size >= 257 && vocab_size <= INT32_MAX,
      "vocab_size: ",
      vocab_size,
      " is not at least 257 (256 bytes and ",
      kEndOfText,
      ")");
  auto definition = trainer.train(vocab_size - 1);
  add_end_of_text(definition);
  return definition;
}

} // namespace

namespace {

/// Makes the tokens that the folder's other files name special, as AutoTokenizer does. Names
/// that are no token of the model are left alone: there is no id for them.
void mark_special_tokens(const TokenizerConfig& config, TokenizerDefinition& definition) {
  auto& added = definition.added_tokens;
  for (const auto& content : config.special_tokens) {
    const auto has_content = [&](const AddedToken& token) { return token.content == content; };
    const auto known = std::find_if(added.begin(), added.end(), has_content);
    if (known != added.end()) {
      known->special = true;
      continue;
    }
    const auto& vocabulary = definition.model.vocabulary;
    const auto entry = std::find_if(vocabulary.begin(), vocabulary.end(), [&](const auto& e) {
      return e.token == content;
    });
    if (entry != vocabulary.end()) {
      added.push_back({entry->id, content, /*special=*/true});
    }
  }
  std::sort(
      added.begin(), added.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
}

} // namespace

struct Tokenizer::Impl {
  explicit Impl(TokenizerDefinition parts)
      : definition(std::move(parts)),
        normalizer(definition.normalizer),
        pre_tokenizer(definition.pre_tokenizer),
        decoder(definition.decoder),
        added_tokens(normalized_tokens(definition.added_tokens, normalizer)),
        raw_finder(select(added_tokens, /*normalized=*/false)),
        normalized_finder(select(added_tokens, /*normalized=*/true)),
        model(definition.model, definition.byte_level) {
    const size_t count = definition.model.vocabulary.size() + definition.added_tokens.size();
    tokens.reserve(count);
    id_by_token.reserve(count);
    for (const auto& [token, id] : definition.model.vocabulary) {
      add_token(token, id, /*special=*/false);
    }
    for (size_t i = 0; i < added_tokens.size(); ++i) {
      // Hugging Face's library knows special tokens by how they are written, so one that the
      // normaliser rewrites is not left out of a text.
      const auto& original = definition.added_tokens[i];
      const auto& content = added_tokens[i].content;
      add_token(content, original.id, original.special && content == original.content);
      id_by_token[original.content] = original.id;
    }
    std::vector<std::string_view> end_tokens(std::begin(kEndTokens), std::end(kEndTokens));
    end_tokens.push_back(definition.eos_token);
    for (const auto content : end_tokens) {
      const auto id = id_by_token.find(std::string(content));
      if (!end_of_text && id != id_by_token.end() && tokens.at(id->second).special) {
        end_of_text = id->second;
      }
    }
  }

  struct Token {
    TokenText text;
    bool special = false;
  };

  void add_token(const std::string& token, int32_t id, bool special) {
    tokens[id] = {decoder.text_of(token), special};
    id_by_token[token] = id;
    vocab_size = std::max<int64_t>(vocab_size, int64_t{id} + 1);
  }

  const Token& token(int32_t id) const {
    const auto entry = tokens.find(id);
    check(
        entry != tokens.end(),
        "token id ",
        id,
        " has no token (vocabulary of ",
        vocab_size,
        ")");
    return entry->second;
  }

  std::string decode(
      std::span<const int32_t> ids, bool skip_special, InvalidBytes invalid) const {
    TokenJoiner joiner(decoder, invalid);
    std::string text;
    for (const int32_t id : ids) {
      const auto& entry = token(id);
      if (!(skip_special && entry.special)) {
        text += joiner.push(entry.text);
      }
    }
    return text += joiner.finish();
  }

  /// Working memory for one call of `encode`; kept for the next one.
  class Workspace {
   public:
    explicit Workspace(const Impl& owner) : owner_(owner) {
      const std::lock_guard lock(owner_.mutex);
      if (!owner_.scratches.empty()) {
        scratch_ = std::move(owner_.scratches.back());
        owner_.scratches.pop_back();
      }
      if (!scratch_) {
        scratch_ = std::make_unique<BpeModel::Scratch>();
      }
    }
    ~Workspace() {
      const std::lock_guard lock(owner_.mutex);
      owner_.scratches.push_back(std::move(scratch_));
    }
    Workspace(const Workspace&) = delete;
    Workspace& operator=(const Workspace&) = delete;

    BpeModel::Scratch& operator*() {
      return *scratch_;
    }

   private:
    const Impl& owner_;
    std::unique_ptr<BpeModel::Scratch> scratch_;
  };

  std::vector<int32_t> encode(std::string_view text, bool with_special) const {
    std::vector<int32_t> ids;
    ids.reserve(text.size() / 4);
    Workspace scratch(*this);
    const auto add = [&](int32_t id) { ids.push_back(id); };
    raw_finder.for_each(
        text,
        with_special,
        [&](std::string_view section, size_t offset) {
          std::string normalized;
          if (!normalizer.empty()) {
            normalized = normalizer.apply(section);
            section = normalized;
          }
          normalized_finder.for_each(
              section,
              with_special,
              [&](std::string_view part, size_t part_offset) {
                const bool is_first = offset == 0 && part_offset == 0;
                pre_tokenizer.for_each(part, is_first, [&](std::string_view piece) {
                  model.encode(piece, ids, *scratch);
                });
              },
              add);
        },
        add);
    return ids;
  }

  TokenizerDefinition definition;
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  TokenDecoder decoder;
  std::vector<AddedToken> added_tokens; ///< as they are written in the text that is searched
  AddedTokenFinder raw_finder;
  AddedTokenFinder normalized_finder;
  BpeModel model;
  std::unordered_map<int32_t, Token> tokens;
  std::unordered_map<std::string, int32_t> id_by_token;
  int64_t vocab_size = 0;
  std::optional<int32_t> end_of_text;

  mutable std::mutex mutex; ///< guards scratches
  mutable std::vector<std::unique_ptr<BpeModel::Scratch>> scratches;
};

Tokenizer::Tokenizer(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

Tokenizer Tokenizer::bytes() {
  TokenizerDefinition definition;
  for (int32_t byte = 0; byte < 256; ++byte) {
    definition.model.vocabulary.push_back(
        {to_byte_level(std::string(1, static_cast<char>(byte))), byte});
  }
  add_end_of_text(definition);
  return Tokenizer(std::make_shared<Impl>(std::move(definition)));
}

Tokenizer Tokenizer::characters(const std::vector<std::string_view>& texts) {
  CharacterSet characters;
  for (const auto text : texts) {
    characters.add(text);
  }
  return Tokenizer(std::make_shared<Impl>(characters.definition()));
}

Tokenizer Tokenizer::train_bpe(
    const std::vector<std::string_view>& documents, int64_t vocab_size) {
  BpeTrainer trainer(Pattern::qwen2);
  for (const auto document : documents) {
    trainer.add(document);
  }
  return Tokenizer(std::make_shared<Impl>(train(trainer, vocab_size)));
}

Tokenizer Tokenizer::load(const std::filesystem::path& file_or_folder) {
  std::error_code error;
  const bool is_folder = std::filesystem::is_directory(file_or_folder, error);
  const auto file = is_folder ? file_or_folder / "tokenizer.json" : file_or_folder;
  check(
      file.extension() != ".model" &&
          (std::filesystem::exists(file, error) ||
           !std::filesystem::exists(file_or_folder / "tokenizer.model", error)),
      file_or_folder.string(),
      ": SentencePiece files (tokenizer.model) are not read; transformers writes the "
      "tokenizer.json that is: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)");
  auto definition = parse_tokenizer_json(read_text_file(file), file.string());
  if (is_folder) {
    const auto config = read_tokenizer_config(file_or_folder);
    definition.eos_token = config.eos_token.value_or("");
    mark_special_tokens(config, definition);
  }
  return from_definition(std::move(definition), file.string());
}

Tokenizer Tokenizer::from_json(std::string_view json, const std::string& name) {
  return from_definition(parse_tokenizer_json(json, name), name);
}

Tokenizer Tokenizer::from_definition(TokenizerDefinition definition, const std::string& name) {
  try {
    return Tokenizer(std::make_shared<Impl>(std::move(definition)));
  } catch (const Error& error) {
    fail(name, ": ", error.what());
  }
}

Tokenizer Tokenizer::with_added_tokens(const std::vector<std::string>& tokens) const {
  auto definition = impl_->definition;
  int64_t next = vocab_size();
  for (const auto& token : tokens) {
    if (!token_id(token)) {
      check(next <= INT32_MAX, "tokenizer: there is no id left for ", token);
      definition.added_tokens.push_back(
          {static_cast<int32_t>(next++), token, /*special=*/true});
    }
  }
  return Tokenizer(std::make_shared<Impl>(std::move(definition)));
}

void Tokenizer::save(const std::filesystem::path& file) const {
  write_file_atomically(file, to_json());
}

std::string Tokenizer::to_json() const {
  return format_tokenizer_json(impl_->definition);
}

std::vector<int32_t> Tokenizer::encode(std::string_view text) const {
  return impl_->encode(text, /*with_special=*/true);
}

std::vector<int32_t> Tokenizer::encode_ordinary(std::string_view text) const {
  return impl_->encode(text, /*with_special=*/false);
}

std::vector<int32_t> Tokenizer::with_special_tokens(std::vector<int32_t> ids) const {
  const auto& [before, after] = impl_->definition.special_tokens;
  ids.insert(ids.begin(), before.begin(), before.end());
  ids.insert(ids.end(), after.begin(), after.end());
  return ids;
}

std::string Tokenizer::decode_bytes(std::span<const int32_t> ids, bool skip_special) const {
  return impl_->decode(ids, skip_special, InvalidBytes::keep);
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special) const {
  return impl_->decode(ids, skip_special, InvalidBytes::replace);
}

const std::string& Tokenizer::token_bytes(int32_t id) const {
  return impl_->token(id).text.bytes;
}

const TokenText& Tokenizer::token_text(int32_t id) const {
  return impl_->token(id).text;
}

bool Tokenizer::has_token(int32_t id) const {
  return impl_->tokens.contains(id);
}

const TokenDecoder& Tokenizer::token_decoder() const {
  return impl_->decoder;
}

std::optional<int32_t> Tokenizer::token_id(std::string_view token) const {
  const auto entry = impl_->id_by_token.find(std::string(token));
  return entry == impl_->id_by_token.end() ? std::nullopt : std::optional(entry->second);
}

bool Tokenizer::is_special(int32_t id) const {
  return impl_->token(id).special;
}

int64_t Tokenizer::vocab_size() const {
  return impl_->vocab_size;
}

std::optional<int32_t> Tokenizer::end_of_text() const {
  return impl_->end_of_text;
}

Tokenizer make_tokenizer(const std::string& spec, const DocumentSource& documents) {
  if (spec == "bytes") {
    return Tokenizer::bytes();
  }
  if (spec == "chars") {
    CharacterSet characters;
    documents([&](std::string_view document) { characters.add(document); });
    return Tokenizer(std::make_shared<Tokenizer::Impl>(characters.definition()));
  }
  if (spec.rfind("bpe:", 0) == 0) {
    int64_t vocab_size = 0;
    const char* end = spec.data() + spec.size();
    const auto [stop, error] = std::from_chars(spec.data() + 4, end, vocab_size);
    check(
        error == std::errc() && stop == end && vocab_size >= 257 && vocab_size <= INT32_MAX,
        "tokenizer: ",
        spec,
        " is not bpe: and a vocabulary size from 257 on, such as bpe:8192");
    BpeTrainer trainer(Pattern::qwen2);
    documents([&](std::string_view document) { trainer.add(document); });
    return Tokenizer(std::make_shared<Tokenizer::Impl>(train(trainer, vocab_size)));
  }
  std::error_code error;
  check(
      std::filesystem::exists(spec, error),
      "tokenizer: ",
      spec,
      " is neither bytes, chars, bpe:SIZE nor an existing file or folder");
  return Tokenizer::load(spec);
}

} // namespace moe
