#pragma once

#include <torch/types.h>

#include <optional>
#include <string>
#include <vector>

#include "moe/data/mixture.h"
#include "moe/data/token_file.h"

namespace moe {

/// Token sequences and what follows each token.
struct Batch {
  torch::Tensor inputs;    ///< [B, S] int64
  torch::Tensor targets;   ///< [B, S] int64: the token after each input
  torch::Tensor loss_mask; ///< [B, S] float32, 1 where the target counts; undefined: everywhere
  torch::Tensor domains;   ///< [B] int64: index of the domain of each row
  torch::Tensor documents; ///< [B, S] int64: running number of the input's document in its row,
                           ///< from 0; undefined unless attention must stay inside documents
  torch::Tensor
      token_mask; ///< [B, S] bool: false where an input is padding; undefined: none is

  /// The same batch on another device.
  Batch to(const torch::Device& device) const;
};

/// Documents in rows of a fixed length, as many as fit, in an order of their own.
struct Packing {
  std::vector<int64_t> order;     ///< indices of documents
  std::vector<int64_t> row_begin; ///< in `order`, of each row; and its size at the end
  int64_t num_rows() const {
    return static_cast<int64_t>(row_begin.size()) - 1;
  }
};

/// Packs the first `documents` documents, or all if -1, into rows of `sequence_length` inputs:
/// the longest first, each into the fullest row that still has room for it. Of a document that
/// is longer than a row, what does not fit is left out. The same seed gives the same packing.
Packing pack_documents(
    const TokenFile& tokens, int64_t sequence_length, int64_t seed, int64_t documents = -1);

/// One domain of a dataset. With `replies`, its documents are conversations.
struct TokenDomain {
  std::string name;
  TokenFile tokens;
  std::optional<TokenFile> replies = std::nullopt; ///< 1 for each token that the assistant says
};

/// Training batches from the token files of several domains, as a pure function of (seed,
/// step): there is no state to save.
///
/// Rows are dealt out to domains by a `Mixture`. Within an epoch of a domain its windows of S
/// tokens are drawn without replacement in a pseudo-random order; each epoch shifts them by an
/// offset of its own. Windows never reach beyond their file.
///
/// Conversations are packed instead: whole ones fill a row, do not see each other, and only the
/// assistant's tokens count in the loss. What is left of a row is padding.
///
/// Example:
/// ```
/// TokenDataset dataset({{"en", english}, {"de", german}}, /*weights=*/{}, /*seed=*/0);
/// Batch batch = dataset.batch(step, /*batch_size=*/8, /*sequence_length=*/256);
/// ```
class TokenDataset {
 public:
  /// `weights`: one per domain; none for the domains' sizes in tokens. With `document_mask`,
  /// batches carry `documents` and a loss mask that is 0 where the target begins another
  /// document. Conversations are packed for `sequence_length`; other lengths are then not
  /// possible. Throws `Error` naming a domain of conversations without a reply in that length.
  TokenDataset(
      std::vector<TokenDomain> domains,
      const std::vector<double>& weights,
      int64_t seed,
      bool document_mask = false,
      int64_t sequence_length = 0);

  /// Batch number `step`. With gradient accumulation, count micro-batches. Throws `Error`
  /// naming a domain, its tokens and the needed number where it is shorter than one sequence.
  Batch batch(int64_t step, int64_t batch_size, int64_t sequence_length) const;

  /// Throws the error of `batch` without reading one.
  void check_sequence_length(int64_t sequence_length) const;

  const std::vector<TokenDomain>& domains() const {
    return domains_;
  }
  int64_t num_tokens() const;

 private:
  int64_t window_begin(int64_t domain, int64_t index, int64_t sequence_length) const;
  bool has_conversations() const;
  void fill_window(Batch& batch, int64_t row, const Mixture::Place& place) const;
  void fill_packed(Batch& batch, int64_t row, const Mixture::Place& place) const;

  std::vector<TokenDomain> domains_;
  std::vector<Packing> packings_; ///< by domain; empty of those that are no conversations
  Mixture mixture_;
  int64_t seed_;
  bool document_mask_;
  int64_t packed_length_;
};

/// The tokens of one file in order, each predicted exactly once: also the first, which follows
/// an end-of-text token as every document of the training data does. The last batch is padded
/// by rows and positions with a loss mask of 0.
///
/// Example:
/// ```
/// EvaluationWindows windows(tokens, /*domain=*/0, /*batch_size=*/8, /*sequence_length=*/256);
/// for (int64_t i = 0; i < windows.num_batches(); ++i) evaluate(windows.batch(i));
/// double bits_per_byte = nll_sum / std::log(2.0) / windows.text_bytes();
/// ```
class EvaluationWindows {
 public:
  /// Evaluates the first `max_tokens` tokens, or all of them if 0. `domain` is what the batches
  /// carry. With `document_mask`, the first token of a document does not count. With `replies`,
  /// the conversations that begin among these tokens are packed as for training: whole, each by
  /// itself, and only what the assistant says counts.
  EvaluationWindows(
      TokenFile tokens,
      int64_t domain,
      int64_t batch_size,
      int64_t sequence_length,
      int64_t max_tokens = 0,
      bool document_mask = false,
      std::optional<TokenFile> replies = std::nullopt);

  int64_t num_batches() const;

  /// Whether any target counts. Of conversations none does where all replies begin after the
  /// first `sequence_length` tokens.
  bool has_targets() const;

  /// Batch `index`; always with `loss_mask` [B, S], and with B rows.
  Batch batch(int64_t index) const;

  /// Tokens evaluated, the targets with a loss mask of 1 and, with `document_mask`, the first
  /// of each document. Of conversations all that begin within `max_tokens`.
  int64_t num_tokens() const {
    return num_tokens_;
  }

  /// Bytes of text that these tokens stand for. Exact for whole documents; where `max_tokens`
  /// ends within one, its bytes are counted in proportion to its tokens. Of conversations the
  /// bytes of replies.
  int64_t text_bytes() const;

 private:
  Batch empty_batch() const;

  TokenFile tokens_;
  int64_t domain_;
  int64_t batch_size_;
  int64_t sequence_length_;
  int64_t num_tokens_;
  bool document_mask_;
  std::optional<TokenFile> replies_;
  Packing packing_; ///< of conversations
};

} // namespace moe
