#include "moe/training/training_data.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "moe/data/encode_corpus.h"
#include "moe/data/mixture.h"
#include "moe/data/sha256.h"
#include "moe/data/tokenizer/tokenizer_config.h"
#include "moe/error.h"
#include "moe/files/atomic_file.h"

namespace moe {
namespace {

using nlohmann::json;

constexpr const char* kRecord = "data.json";

/// What the files are made from; they are made again when it changes.
std::string data_key(const TrainerOptions& options, const Tokenizer& tokenizer) {
  return json{
      {"data", options.data},
      {"val_data", options.val_data},
      {"tokenizer", to_hex(sha256(tokenizer.to_json()))},
      {"chat_format", options.chat_format}}
      .dump();
}

/// The fingerprint in the record at `path` if the files that it describes are still right.
std::string recorded_fingerprint(const std::filesystem::path& path, const std::string& key) {
  if (!std::filesystem::exists(path)) {
    return "";
  }
  const auto record = json::parse(read_text_file(path), nullptr, /*allow_exceptions=*/false);
  if (!record.is_object() || record.value("key", "") != key) {
    return "";
  }
  return record.value("fingerprint", "");
}

std::string describe(const EncodedCorpus& corpus) {
  std::ostringstream text;
  const char* what = corpus.reply_tokens > 0 ? "conversation" : "document";
  text << corpus.documents << ' ' << what << (corpus.documents == 1 ? ", " : "s, ")
       << corpus.tokens << " tokens";
  if (corpus.reply_tokens > 0) {
    text << " (" << corpus.reply_tokens << " of replies)";
  }
  text << ", " << corpus.text_bytes << " bytes";
  return text.str();
}

/// Says into how many rows the conversations of a domain are packed, and how many are cut.
void log_packing(
    const DomainFiles& domain, const TrainerOptions& options, const LogCallback& log) {
  const auto& tokens = domain.training;
  const int64_t length = options.sequence_length;
  int64_t used = 0;
  int64_t cut = 0;
  for (int64_t i = 0; i < tokens.num_documents(); ++i) {
    const int64_t size = tokens.document_begin(i + 1) - tokens.document_begin(i) - 1;
    used += std::min(size, length);
    cut += size > length ? 1 : 0;
  }
  const int64_t rows = pack_documents(tokens, length, options.seed).num_rows();
  std::ostringstream text;
  text << domain.name << ": packed into " << rows << " rows of " << length << " tokens, "
       << 100 * used / (rows * length) << " % full";
  log(text.str());
  if (cut > 0) {
    std::ostringstream warning;
    warning << "warning: " << domain.name << ": " << cut << " of " << tokens.num_documents()
            << " conversations are longer than sequence_length " << length
            << "; what is beyond is not learned";
    log(warning.str());
  }
}

/// The held-out text of each training domain: its own 5 %, or what `val_data` says.
struct HeldOut {
  std::vector<DataSource> sources;
  Split split;
};

HeldOut held_out_sources(
    const TrainerOptions& options,
    const std::vector<DataSource>& training,
    const std::string& domain) {
  if (options.val_data.empty()) {
    return {sources_of(training, domain), Split::held_out};
  }
  return {sources_of(parse_data_sources(options.val_data), domain), Split::all};
}

/// How often a tokenizer's training text repeats each domain, so that domains weigh in it as in
/// the mixture: once the domain that has the most text for its weight, others up to 16 times.
std::map<std::string, int64_t> domain_repetitions(
    const std::vector<DataSource>& sources, Split split, const std::vector<std::string>& mix) {
  constexpr double kMostRepetitions = 16.0;
  const auto domains = domains_of(sources);
  const auto weights = parse_mixture(mix, domains);
  std::map<std::string, int64_t> repetitions;
  if (weights.empty()) {
    for (const auto& domain : domains) {
      repetitions[domain] = 1;
    }
    return repetitions;
  }
  std::vector<double> text_per_weight;
  for (size_t i = 0; i < domains.size(); ++i) {
    double bytes = 0.0;
    for (const auto& source : sources_of(sources, domains[i])) {
      for_each_document(source, split, [&](const Document& document) {
        bytes += static_cast<double>(document.text.size());
      });
    }
    text_per_weight.push_back(weights[i] > 0.0 ? bytes / weights[i] : 0.0);
  }
  const double most = *std::max_element(text_per_weight.begin(), text_per_weight.end());
  for (size_t i = 0; i < domains.size(); ++i) {
    const double ratio = text_per_weight[i] > 0.0 ? most / text_per_weight[i] : 1.0;
    repetitions[domains[i]] = std::llround(std::min(ratio, kMostRepetitions));
  }
  return repetitions;
}

/// How conversations are written: as the options say, or the folder of the tokenizer. Nothing
/// where neither does.
std::optional<ChatFormat> run_chat_format(
    const TrainerOptions& options, const Tokenizer& tokenizer) {
  std::error_code error;
  const bool is_folder = std::filesystem::is_directory(options.tokenizer, error);
  const auto config = is_folder ? read_tokenizer_config(options.tokenizer) : TokenizerConfig();
  if (!options.chat_format.empty()) {
    return named_chat_format(options.chat_format, config);
  }
  return find_chat_format(config, tokenizer); // without one, a conversation is an error
}

} // namespace

Tokenizer make_run_tokenizer(const TrainerOptions& options) {
  const auto split = options.val_data.empty() ? Split::training : Split::all;
  const auto sources = parse_data_sources(options.data);
  check_exist(sources);
  return make_tokenizer(
      options.tokenizer, [&](const std::function<void(std::string_view)>& visit) {
        const auto repetitions = domain_repetitions(sources, split, options.mix);
        for (const auto& source : sources) {
          for_each_document(source, split, [&](const Document& document) {
            for (int64_t i = 0; i < repetitions.at(source.domain); ++i) {
              visit(document.text);
            }
          });
        }
      });
}

TrainingData prepare_training_data(
    const std::filesystem::path& folder,
    const TrainerOptions& options,
    const Tokenizer& tokenizer,
    const LogCallback& log) {
  check(!options.data.empty(), "data: no training text is given; --data NAME=PATH");
  const auto training = parse_data_sources(options.data);
  const auto domains = domains_of(training);
  const auto validation = parse_data_sources(options.val_data);
  for (const auto& domain : domains_of(validation)) {
    check(
        std::find(domains.begin(), domains.end(), domain) != domains.end(),
        "val_data: the domain '",
        domain,
        "' has no training text");
  }
  std::filesystem::create_directories(folder);
  const auto record_path = folder / kRecord;
  const auto key = data_key(options, tokenizer);
  auto fingerprint = recorded_fingerprint(record_path, key);
  const bool encode = fingerprint.empty();
  if (encode) { // the tokens that are there need no text
    check_exist(training);
    check_exist(validation);
  }
  const auto training_split = options.val_data.empty() ? Split::training : Split::all;
  const auto chat = encode ? run_chat_format(options, tokenizer) : std::nullopt;
  TrainingData result;
  Sha256 hash;
  for (const auto& domain : domains) {
    const auto training_path = (folder / (domain + ".train.tokens")).string();
    const auto held_out_path = (folder / (domain + ".held_out.tokens")).string();
    const auto held_out = held_out_sources(options, training, domain);
    check(
        !held_out.sources.empty(), "val_data: the domain '", domain, "' has no held-out text");
    if (encode) {
      const auto corpus = encode_documents(
          sources_of(training, domain), training_split, tokenizer, training_path, chat);
      const auto held_out_corpus =
          encode_documents(held_out.sources, held_out.split, tokenizer, held_out_path, chat);
      hash.update(domain + ' ' + corpus.sha256 + ' ' + held_out_corpus.sha256 + '\n');
      log(domain + ": " + describe(corpus) + "; held out " + describe(held_out_corpus));
    }
    const auto json = tokenizer.to_json();
    result.domains.push_back(
        {domain,
         TokenFile(training_path, tokenizer.vocab_size(), json),
         TokenFile(held_out_path, tokenizer.vocab_size(), json),
         open_replies(training_path),
         open_replies(held_out_path)});
    if (encode && result.domains.back().training_replies) {
      log_packing(result.domains.back(), options, log);
    }
  }
  if (encode) {
    fingerprint = to_hex(hash.digest());
    write_file_atomically(
        record_path, json{{"key", key}, {"fingerprint", fingerprint}}.dump(1) + "\n");
  }
  result.fingerprint = fingerprint;
  return result;
}

void forget_training_data(const std::filesystem::path& folder) {
  std::filesystem::remove(folder / kRecord);
}

TokenDataset training_dataset(const TrainingData& data, const TrainerOptions& options) {
  std::vector<TokenDomain> domains;
  std::vector<std::string> names;
  for (const auto& domain : data.domains) {
    domains.push_back({domain.name, domain.training, domain.training_replies});
    names.push_back(domain.name);
  }
  return TokenDataset(
      std::move(domains),
      parse_mixture(options.mix, names),
      options.seed,
      options.document_mask,
      options.sequence_length);
}

} // namespace moe
