#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "moe/data/token_file.h"
#include "moe/data/tokenizer/tokenizer.h"
#include "moe/evaluation/evaluator.h"

namespace moe {

/// The tokens of one domain.
struct EncodedText {
  std::string name;
  TokenFile tokens;
  std::optional<TokenFile> replies; ///< of conversations: 1 for what the assistant says
};

/// Texts given as NAME=PATH, encoded into files that are gone when this is.
class EncodedTexts {
 public:
  /// `data` as the flag --data has it; domains are in the order of their first mention.
  /// Conversations are written as the folder's chat template does.
  EncodedTexts(
      const std::vector<std::string>& data,
      const Tokenizer& tokenizer,
      const std::filesystem::path& model_folder);
  ~EncodedTexts();
  EncodedTexts(const EncodedTexts&) = delete;
  EncodedTexts& operator=(const EncodedTexts&) = delete;

  const std::vector<EncodedText>& domains() const {
    return domains_;
  }

 private:
  std::filesystem::path folder_;
  std::vector<EncodedText> domains_;
};

/// How texts are cut for an evaluation.
struct EvaluationCut {
  int64_t batch_size = 8;
  int64_t sequence_length = 0; ///< of windows
  int64_t max_tokens = 0;      ///< per domain; 0 for all
  bool document_mask = false;
};

/// The texts as `evaluate` takes them.
std::vector<EvaluationDomain> evaluation_domains(
    const EncodedTexts& texts, const EvaluationCut& cut);

} // namespace moe
