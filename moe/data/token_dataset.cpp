#include "moe/data/token_dataset.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "moe/data/permutation.h"
#include "moe/error.h"
#include "moe/libtorch.h"

namespace moe {
namespace {

constexpr uint64_t kWindowKey = 0x77696e646f77; // "window"
constexpr uint64_t kOffsetKey = 0x6f6666736574; // "offset"

torch::Tensor empty_ids(int64_t rows, int64_t columns) {
  return torch::zeros({rows, columns}, torch::kInt64);
}

std::span<int64_t> row_of(torch::Tensor& ids, int64_t row) {
  const int64_t columns = ids.size(1);
  return {ids.mutable_data_ptr<int64_t>() + row * columns, static_cast<size_t>(columns)};
}

/// Windows of an epoch of `tokens` tokens, whatever its offset below `sequence_length` is.
int64_t windows_per_epoch(int64_t tokens, int64_t sequence_length) {
  return std::max<int64_t>(1, (tokens - sequence_length) / sequence_length);
}

std::vector<double> weights_of(
    const std::vector<TokenDomain>& domains, const std::vector<double>& weights) {
  check(!domains.empty(), "token dataset: there is no domain");
  check(
      weights.empty() || weights.size() == domains.size(),
      "token dataset: ",
      weights.size(),
      " weights for ",
      domains.size(),
      " domains");
  std::vector<double> result = weights;
  for (size_t i = result.size(); i < domains.size(); ++i) {
    result.push_back(static_cast<double>(domains[i].tokens.num_tokens()));
  }
  return result;
}

void check_batch_shape(int64_t batch_size, int64_t sequence_length) {
  check(batch_size >= 1, "batch_size: ", batch_size, " is not at least 1");
  check(sequence_length >= 1, "sequence_length: ", sequence_length, " is not at least 1");
}

/// Numbers the documents of inputs that are the tokens from `begin` on, and masks targets that
/// lie in another document. Token -1 is the end of a document before the first.
void mark_documents(
    const TokenFile& tokens,
    int64_t begin,
    std::span<int64_t> documents,
    std::span<float> loss_mask) {
  int64_t next = begin < 0 ? 0 : tokens.document_of(begin) + 1;
  int64_t next_begin = tokens.document_begin(next);
  int64_t number = 0;
  for (size_t i = 0; i < documents.size(); ++i) {
    documents[i] = number;
    const int64_t target = begin + static_cast<int64_t>(i) + 1;
    if (target == next_begin && next < tokens.num_documents()) {
      loss_mask[i] = 0;
      next_begin = tokens.document_begin(++next);
      ++number;
    }
  }
}

} // namespace

Batch Batch::to(const torch::Device& device) const {
  const auto moved = [&](const torch::Tensor& tensor) {
    return tensor.defined() ? tensor.to(device, /*non_blocking=*/true) : tensor;
  };
  return {moved(inputs), moved(targets), moved(loss_mask), moved(domains), moved(documents)};
}

TokenDataset::TokenDataset(
    std::vector<TokenDomain> domains,
    const std::vector<double>& weights,
    int64_t seed,
    bool document_mask)
    : domains_(std::move(domains)),
      mixture_(weights_of(domains_, weights), seed),
      seed_(seed),
      document_mask_(document_mask) {}

int64_t TokenDataset::num_tokens() const {
  int64_t sum = 0;
  for (const auto& domain : domains_) {
    sum += domain.tokens.num_tokens();
  }
  return sum;
}

void TokenDataset::check_sequence_length(int64_t sequence_length) const {
  for (const auto& domain : domains_) {
    check(
        domain.tokens.num_tokens() > sequence_length,
        "data: domain '",
        domain.name,
        "' has ",
        domain.tokens.num_tokens(),
        " tokens, one sequence needs ",
        sequence_length + 1,
        " (sequence_length ",
        sequence_length,
        " and the token after it); give more text or a smaller sequence_length");
  }
}

int64_t TokenDataset::window_begin(
    int64_t domain, int64_t index, int64_t sequence_length) const {
  const int64_t tokens = domains_[static_cast<size_t>(domain)].tokens.num_tokens();
  const int64_t windows = windows_per_epoch(tokens, sequence_length);
  const auto seed = static_cast<uint64_t>(seed_);
  const auto epoch = static_cast<uint64_t>(index / windows);
  const auto place = static_cast<uint64_t>(domain);
  const int64_t window =
      permute(index % windows, windows, mix_bits({seed, kWindowKey, place, epoch}));
  const int64_t offsets = std::min(sequence_length, tokens - windows * sequence_length);
  const auto offset =
      mix_bits({seed, kOffsetKey, place, epoch}) % static_cast<uint64_t>(offsets);
  return static_cast<int64_t>(offset) + window * sequence_length;
}

Batch TokenDataset::batch(int64_t step, int64_t batch_size, int64_t sequence_length) const {
  check(step >= 0, "token dataset: step ", step, " is not at least 0");
  check_batch_shape(batch_size, sequence_length);
  check_sequence_length(sequence_length);
  Batch batch;
  auto windows = empty_ids(batch_size, sequence_length + 1);
  batch.domains = torch::zeros({batch_size}, torch::kInt64);
  if (document_mask_) {
    batch.documents = empty_ids(batch_size, sequence_length);
    batch.loss_mask = torch::ones({batch_size, sequence_length});
  }
  for (int64_t row = 0; row < batch_size; ++row) {
    const auto place = mixture_.place(step * batch_size + row);
    const auto& tokens = domains_[static_cast<size_t>(place.domain)].tokens;
    const int64_t begin = window_begin(place.domain, place.index, sequence_length);
    tokens.read(begin, row_of(windows, row));
    batch.domains.mutable_data_ptr<int64_t>()[row] = place.domain;
    if (document_mask_) {
      float* mask = batch.loss_mask.mutable_data_ptr<float>() + row * sequence_length;
      mark_documents(
          tokens,
          begin,
          row_of(batch.documents, row),
          {mask, static_cast<size_t>(sequence_length)});
    }
  }
  batch.inputs = windows.slice(/*dim=*/1, 0, sequence_length).contiguous();
  batch.targets = windows.slice(/*dim=*/1, 1, sequence_length + 1).contiguous();
  return batch;
}

EvaluationWindows::EvaluationWindows(
    TokenFile tokens,
    int64_t domain,
    int64_t batch_size,
    int64_t sequence_length,
    int64_t max_tokens,
    bool document_mask)
    : tokens_(std::move(tokens)),
      domain_(domain),
      batch_size_(batch_size),
      sequence_length_(sequence_length),
      num_tokens_(tokens_.num_tokens()),
      document_mask_(document_mask) {
  check_batch_shape(batch_size, sequence_length);
  check(max_tokens >= 0, "evaluation: max_tokens ", max_tokens, " is not at least 0");
  if (max_tokens > 0) {
    num_tokens_ = std::min(num_tokens_, max_tokens);
  }
}

int64_t EvaluationWindows::num_batches() const {
  const int64_t windows = (num_tokens_ - 1) / sequence_length_ + 1;
  return (windows - 1) / batch_size_ + 1;
}

Batch EvaluationWindows::batch(int64_t index) const {
  check(
      index >= 0 && index < num_batches(),
      "evaluation: no batch ",
      index,
      " of ",
      num_batches());
  Batch batch;
  batch.inputs = empty_ids(batch_size_, sequence_length_);
  batch.targets = empty_ids(batch_size_, sequence_length_);
  batch.loss_mask = torch::zeros({batch_size_, sequence_length_});
  batch.domains = torch::full({batch_size_}, domain_, torch::kInt64);
  if (document_mask_) {
    batch.documents = empty_ids(batch_size_, sequence_length_);
  }
  for (int64_t row = 0; row < batch_size_; ++row) {
    const int64_t begin = (index * batch_size_ + row) * sequence_length_; // first target
    const int64_t count = std::min(sequence_length_, num_tokens_ - begin);
    if (count <= 0) {
      break;
    }
    const auto used = static_cast<size_t>(count);
    const auto inputs = row_of(batch.inputs, row).first(used);
    tokens_.read(begin, row_of(batch.targets, row).first(used));
    if (begin == 0) {
      tokens_.read(tokens_.num_tokens() - 1, inputs.first(1)); // an end-of-text token
      tokens_.read(0, inputs.subspan(1));
    } else {
      tokens_.read(begin - 1, inputs);
    }
    float* mask = batch.loss_mask.mutable_data_ptr<float>() + row * sequence_length_;
    std::fill_n(mask, count, 1.0f);
    if (document_mask_) {
      mark_documents(
          tokens_, begin - 1, row_of(batch.documents, row).first(used), {mask, used});
    }
  }
  return batch;
}

int64_t EvaluationWindows::text_bytes() const {
  if (num_tokens_ == tokens_.num_tokens()) {
    return tokens_.text_bytes();
  }
  const int64_t document = tokens_.document_of(num_tokens_);
  const int64_t begin = tokens_.document_begin(document);
  const int64_t size = tokens_.document_begin(document + 1) - begin;
  const int64_t bytes_before = tokens_.text_bytes_before(document);
  const int64_t bytes = tokens_.text_bytes_before(document + 1) - bytes_before;
  const double share = static_cast<double>(num_tokens_ - begin) / static_cast<double>(size);
  return bytes_before + std::llround(share * static_cast<double>(bytes));
}

} // namespace moe
