#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "moe/data/token_dataset.h"
#include "moe/data/tokenizer/tokenizer.h"
#include "moe/training/trainer_options.h"

namespace moe {

/// The token files of one domain of a run.
struct DomainFiles {
  std::string name;
  TokenFile training;
  TokenFile held_out;
  std::optional<TokenFile> training_replies; ///< of conversations, as in `TokenDomain`
  std::optional<TokenFile> held_out_replies;
};

/// The text of a run as tokens.
struct TrainingData {
  std::vector<DomainFiles> domains; ///< in the order in which the options name them
  std::string fingerprint;          ///< of all text: SHA-256 in hexadecimal
};

/// Receives a line about what is being done.
using LogCallback = std::function<void(const std::string&)>;

/// The tokenizer that the options ask for, trained on their training text where it is
/// `bpe:SIZE` or `chars`. With `mix`, domains weigh in that text as they do in the batches.
Tokenizer make_run_tokenizer(const TrainerOptions& options);

/// Encodes the text of the options into token files below `folder` (`en.train.tokens`,
/// `en.held_out.tokens`), with a record of what they were made from in `data.json`. Files that
/// are there already, of the same options and tokenizer, are taken as they are: the text need
/// not exist any more.
///
/// Throws `Error` for text that is missing, empty, not UTF-8 or too short.
TrainingData prepare_training_data(
    const std::filesystem::path& folder,
    const TrainerOptions& options,
    const Tokenizer& tokenizer,
    const LogCallback& log);

/// Has `prepare_training_data` encode the text again, even where `folder` has its tokens.
void forget_training_data(const std::filesystem::path& folder);

/// The dataset of the training files with the mixture of the options.
TokenDataset training_dataset(const TrainingData& data, const TrainerOptions& options);

} // namespace moe
