#include "moe/data/token_dataset.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <span>

#include "moe/data/permutation.h"
#include "moe/error.h"
#include "moe/libtorch.h"

namespace moe {
namespace {

constexpr uint64_t kWindowKey = 0x77696e646f77; // "window"
constexpr uint64_t kRowKey = 0x726f77;          // "row"
constexpr uint64_t kOrderKey = 0x6f72646572;    // "order"
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

/// Whether the assistant says any of the targets in a packing.
bool has_reply(const TokenFile& replies, const Packing& packing, int64_t sequence_length) {
  return std::any_of(packing.order.begin(), packing.order.end(), [&](int64_t document) {
    const int64_t begin = replies.document_begin(document);
    const int64_t size = replies.document_begin(document + 1) - begin - 1;
    std::vector<int64_t> said(static_cast<size_t>(std::min(size, sequence_length)));
    replies.read(begin + 1, said);
    return std::any_of(said.begin(), said.end(), [](int64_t is_reply) { return is_reply > 0; });
  });
}

/// Fills row `row` of a batch with the conversations of row `packed_row` of a packing.
void fill_conversations(
    Batch& batch,
    int64_t row,
    const TokenFile& tokens,
    const TokenFile& replies,
    const Packing& packing,
    int64_t packed_row) {
  const int64_t length = batch.inputs.size(1);
  float* mask = batch.loss_mask.mutable_data_ptr<float>() + row * length;
  bool* is_token = batch.token_mask.mutable_data_ptr<bool>() + row * length;
  const auto documents = row_of(batch.documents, row);
  const auto first = static_cast<size_t>(packed_row);
  int64_t position = 0;
  int64_t number = 0;
  for (int64_t i = packing.row_begin[first]; i < packing.row_begin[first + 1]; ++i) {
    const int64_t begin = tokens.document_begin(packing.order[static_cast<size_t>(i)]);
    const int64_t end = tokens.document_begin(packing.order[static_cast<size_t>(i)] + 1);
    const int64_t count = std::min(end - begin - 1, length - position);
    const auto part = [&](std::span<int64_t> ids) {
      return ids.subspan(static_cast<size_t>(position), static_cast<size_t>(count));
    };
    tokens.read(begin, part(row_of(batch.inputs, row)));
    tokens.read(begin + 1, part(row_of(batch.targets, row)));
    std::vector<int64_t> said(static_cast<size_t>(count));
    replies.read(begin + 1, said);
    for (int64_t j = 0; j < count; ++j) {
      mask[position + j] = static_cast<float>(said[static_cast<size_t>(j)]);
      documents[static_cast<size_t>(position + j)] = number;
    }
    position += count;
    ++number;
  }
  std::fill(mask + position, mask + length, 0.0f);
  std::fill(is_token + position, is_token + length, false);
  std::fill(documents.begin() + position, documents.end(), number);
}

} // namespace

Batch Batch::to(const torch::Device& device) const {
  const auto moved = [&](const torch::Tensor& tensor) {
    return tensor.defined() ? tensor.to(device, /*non_blocking=*/true) : tensor;
  };
  return {
      moved(inputs),
      moved(targets),
      moved(loss_mask),
      moved(domains),
      moved(documents),
      moved(token_mask)};
}

TokenDataset::TokenDataset(
    std::vector<TokenDomain> domains,
    const std::vector<double>& weights,
    int64_t seed,
    bool document_mask,
    int64_t sequence_length)
    : domains_(std::move(domains)),
      mixture_(weights_of(domains_, weights), seed),
      seed_(seed),
      document_mask_(document_mask),
      packed_length_(sequence_length) {
  for (size_t i = 0; i < domains_.size(); ++i) {
    packings_.emplace_back();
    if (domains_[i].replies) {
      check_batch_shape(/*batch_size=*/1, sequence_length);
      packings_[i] = pack_documents(domains_[i].tokens, sequence_length, seed);
      check(
          has_reply(*domains_[i].replies, packings_[i], sequence_length),
          "data: domain '",
          domains_[i].name,
          "' has no reply to learn: in each conversation the first one begins after "
          "sequence_length ",
          sequence_length,
          "; a larger one is needed");
    }
  }
}

bool TokenDataset::has_conversations() const {
  return std::any_of(domains_.begin(), domains_.end(), [](const TokenDomain& domain) {
    return domain.replies.has_value();
  });
}

int64_t TokenDataset::num_tokens() const {
  int64_t sum = 0;
  for (const auto& domain : domains_) {
    sum += domain.tokens.num_tokens();
  }
  return sum;
}

void TokenDataset::check_sequence_length(int64_t sequence_length) const {
  check(
      !has_conversations() || sequence_length == packed_length_,
      "token dataset: conversations are packed for ",
      packed_length_,
      " tokens, not ",
      sequence_length);
  for (const auto& domain : domains_) {
    check(
        domain.replies || domain.tokens.num_tokens() > sequence_length,
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
  batch.inputs = empty_ids(batch_size, sequence_length);
  batch.targets = empty_ids(batch_size, sequence_length);
  batch.domains = torch::zeros({batch_size}, torch::kInt64);
  if (document_mask_ || has_conversations()) {
    batch.documents = empty_ids(batch_size, sequence_length);
    batch.loss_mask = torch::ones({batch_size, sequence_length});
  }
  if (has_conversations()) {
    batch.token_mask = torch::ones({batch_size, sequence_length}, torch::kBool);
  }
  for (int64_t row = 0; row < batch_size; ++row) {
    const auto place = mixture_.place(step * batch_size + row);
    batch.domains.mutable_data_ptr<int64_t>()[row] = place.domain;
    if (domains_[static_cast<size_t>(place.domain)].replies) {
      fill_packed(batch, row, place);
    } else {
      fill_window(batch, row, place);
    }
  }
  return batch;
}

void TokenDataset::fill_window(Batch& batch, int64_t row, const Mixture::Place& place) const {
  const int64_t length = batch.inputs.size(1);
  const auto& tokens = domains_[static_cast<size_t>(place.domain)].tokens;
  const int64_t begin = window_begin(place.domain, place.index, length);
  tokens.read(begin, row_of(batch.inputs, row));
  tokens.read(begin + 1, row_of(batch.targets, row));
  if (document_mask_) {
    float* mask = batch.loss_mask.mutable_data_ptr<float>() + row * length;
    mark_documents(
        tokens, begin, row_of(batch.documents, row), {mask, static_cast<size_t>(length)});
  }
}

void TokenDataset::fill_packed(Batch& batch, int64_t row, const Mixture::Place& place) const {
  const auto domain = static_cast<size_t>(place.domain);
  const auto& packing = packings_[domain];
  const int64_t rows = packing.num_rows();
  const auto epoch = static_cast<uint64_t>(place.index / rows);
  const auto key = mix_bits(
      {static_cast<uint64_t>(seed_), kRowKey, static_cast<uint64_t>(place.domain), epoch});
  const int64_t packed_row = permute(place.index % rows, rows, key);
  fill_conversations(
      batch, row, domains_[domain].tokens, *domains_[domain].replies, packing, packed_row);
}

Packing pack_documents(
    const TokenFile& tokens, int64_t sequence_length, int64_t seed, int64_t documents) {
  const int64_t count = documents < 0 ? tokens.num_documents() : documents;
  const auto key = mix_bits({static_cast<uint64_t>(seed), kOrderKey});
  const auto inputs_of = [&](int64_t document) {
    return std::min(
        sequence_length,
        tokens.document_begin(document + 1) - tokens.document_begin(document) - 1);
  };
  std::vector<int64_t> order;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t document = permute(i, count, key);
    if (inputs_of(document) >= 1) { // else there is nothing to predict
      order.push_back(document);
    }
  }
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return inputs_of(a) > inputs_of(b);
  });
  std::vector<std::vector<int64_t>> rows;
  std::multimap<int64_t, size_t> row_by_room;
  for (const int64_t document : order) {
    const int64_t length = inputs_of(document);
    auto fullest = row_by_room.lower_bound(length);
    if (fullest == row_by_room.end()) {
      rows.emplace_back();
      fullest = row_by_room.emplace(sequence_length, rows.size() - 1);
    }
    const auto [room, row] = *fullest;
    row_by_room.erase(fullest);
    row_by_room.emplace(room - length, row);
    rows[row].push_back(document);
  }
  check(!rows.empty(), tokens.path(), ": there is no conversation to learn from");
  Packing packing;
  for (const auto& row : rows) {
    packing.row_begin.push_back(static_cast<int64_t>(packing.order.size()));
    packing.order.insert(packing.order.end(), row.begin(), row.end());
  }
  packing.row_begin.push_back(static_cast<int64_t>(packing.order.size()));
  return packing;
}

EvaluationWindows::EvaluationWindows(
    TokenFile tokens,
    int64_t domain,
    int64_t batch_size,
    int64_t sequence_length,
    int64_t max_tokens,
    bool document_mask,
    std::optional<TokenFile> replies)
    : tokens_(std::move(tokens)),
      domain_(domain),
      batch_size_(batch_size),
      sequence_length_(sequence_length),
      num_tokens_(tokens_.num_tokens()),
      document_mask_(document_mask || replies.has_value()),
      replies_(std::move(replies)) {
  check_batch_shape(batch_size, sequence_length);
  check(max_tokens >= 0, "evaluation: max_tokens ", max_tokens, " is not at least 0");
  if (max_tokens > 0) {
    num_tokens_ = std::min(num_tokens_, max_tokens);
  }
  if (replies_) {
    const int64_t conversations = tokens_.document_of(num_tokens_ - 1) + 1;
    num_tokens_ = tokens_.document_begin(conversations);
    packing_ = pack_documents(tokens_, sequence_length, /*seed=*/0, conversations);
  }
}

int64_t EvaluationWindows::num_batches() const {
  if (replies_) {
    return (packing_.num_rows() - 1) / batch_size_ + 1;
  }
  const int64_t windows = (num_tokens_ - 1) / sequence_length_ + 1;
  return (windows - 1) / batch_size_ + 1;
}

bool EvaluationWindows::has_targets() const {
  for (int64_t i = 0; i < num_batches(); ++i) {
    if (batch(i).loss_mask.any().item<bool>()) {
      return true;
    }
  }
  return false;
}

Batch EvaluationWindows::empty_batch() const {
  Batch batch;
  batch.inputs = empty_ids(batch_size_, sequence_length_);
  batch.targets = empty_ids(batch_size_, sequence_length_);
  batch.loss_mask = torch::zeros({batch_size_, sequence_length_});
  batch.domains = torch::full({batch_size_}, domain_, torch::kInt64);
  if (document_mask_) {
    batch.documents = empty_ids(batch_size_, sequence_length_);
  }
  if (replies_) {
    batch.token_mask = torch::ones({batch_size_, sequence_length_}, torch::kBool);
  }
  return batch;
}

Batch EvaluationWindows::batch(int64_t index) const {
  check(
      index >= 0 && index < num_batches(),
      "evaluation: no batch ",
      index,
      " of ",
      num_batches());
  auto batch = empty_batch();
  for (int64_t row = 0; row < batch_size_; ++row) {
    const int64_t window = index * batch_size_ + row;
    if (replies_) {
      if (window < packing_.num_rows()) {
        fill_conversations(batch, row, tokens_, *replies_, packing_, window);
      }
      continue;
    }
    const int64_t begin = window * sequence_length_; // first target
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
  const auto& counted = replies_ ? *replies_ : tokens_; // documents lie alike in both
  if (num_tokens_ == tokens_.num_tokens()) {
    return counted.text_bytes();
  }
  const int64_t document = tokens_.document_of(num_tokens_);
  const int64_t begin = tokens_.document_begin(document);
  const int64_t size = tokens_.document_begin(document + 1) - begin;
  const int64_t bytes_before = counted.text_bytes_before(document);
  const int64_t bytes = counted.text_bytes_before(document + 1) - bytes_before;
  const double share = static_cast<double>(num_tokens_ - begin) / static_cast<double>(size);
  return bytes_before + std::llround(share * static_cast<double>(bytes));
}

} // namespace moe
