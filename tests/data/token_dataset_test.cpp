#include "moe/data/token_dataset.h"

#include <map>
#include <numeric>
#include <set>

#include "moe/error.h"
#include "moe/libtorch.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"

using namespace moe;

namespace {

constexpr int64_t kVocabulary = 100000;
constexpr int64_t kEndOfText = kVocabulary - 1;

/// Documents of the given lengths (end-of-text included) whose other ids are their place in the
/// file plus `first_id`, and which have 3 bytes of text per id.
TokenFile make_tokens(
    const TemporaryFolder& folder,
    const std::string& name,
    const std::vector<int64_t>& lengths,
    int64_t first_id = 0) {
  const auto path = (folder.path() / name).string();
  TokenFileWriter writer(path, kVocabulary, "t", kEndOfText);
  int64_t next = first_id;
  for (const int64_t length : lengths) {
    std::vector<int64_t> ids(static_cast<size_t>(length - 1));
    std::iota(ids.begin(), ids.end(), next);
    writer.add(ids, 3 * (length - 1));
    next += length;
  }
  writer.finish();
  return TokenFile(path, kVocabulary, "t");
}

std::vector<int64_t> values(const torch::Tensor& tensor) {
  const auto flat = tensor.to(torch::kInt64).contiguous();
  const int64_t* data = flat.const_data_ptr<int64_t>();
  return {data, data + flat.numel()};
}

bool same(const Batch& a, const Batch& b) {
  return torch::equal(a.inputs, b.inputs) && torch::equal(a.targets, b.targets) &&
         torch::equal(a.domains, b.domains);
}

} // namespace

TEST_CASE("TokenDataset: a batch is a pure function of seed and step", "[data]") {
  TemporaryFolder folder;
  const std::vector<TokenDomain> domains = {
      {"a", make_tokens(folder, "a", {500, 300})},
      {"b", make_tokens(folder, "b", {900}, 10000)}};
  const TokenDataset dataset(domains, {}, /*seed=*/0), again(domains, {}, 0),
      other(domains, {}, 1);
  for (const int64_t step : {0, 7, 1000000000}) {
    const auto batch = dataset.batch(step, 4, 16);
    CHECK(batch.inputs.sizes() == torch::IntArrayRef{4, 16});
    CHECK(batch.targets.sizes() == torch::IntArrayRef{4, 16});
    CHECK(batch.domains.sizes() == torch::IntArrayRef{4});
    CHECK(batch.inputs.scalar_type() == torch::kInt64);
    CHECK_FALSE(batch.loss_mask.defined());
    CHECK_FALSE(batch.documents.defined());
    dataset.batch(step + 3, 4, 16);
    CHECK(same(batch, dataset.batch(step, 4, 16)));
    CHECK(same(batch, again.batch(step, 4, 16)));
    CHECK_FALSE(same(batch, other.batch(step, 4, 16)));
    CHECK_FALSE(same(batch, dataset.batch(step + 1, 4, 16)));
  }
}

TEST_CASE("TokenDataset: targets follow inputs and rows stay inside their domain", "[data]") {
  TemporaryFolder folder;
  const auto length = GENERATE(17, 18, 31, 32, 33, 48, 100);
  const TokenDataset dataset(
      {{"a", make_tokens(folder, "a", {length})},
       {"b", make_tokens(folder, "b", {400}, 10000)}},
      /*weights=*/{1, 1},
      /*seed=*/3);
  for (int64_t step = 0; step < 50; ++step) {
    const auto batch = dataset.batch(step, 4, 16);
    CHECK(torch::equal(batch.inputs.slice(1, 1), batch.targets.slice(1, 0, 15)));
    for (int64_t row = 0; row < 4; ++row) {
      const int64_t first_id = batch.domains[row].item<int64_t>() * 10000;
      const auto start = batch.inputs[row][0].item<int64_t>();
      CHECK(start >= first_id);
      CHECK(torch::equal(batch.inputs[row], torch::arange(start, start + 16)));
      CHECK(start + 16 < first_id + (first_id == 0 ? length : 400));
    }
  }
}

TEST_CASE("TokenDataset: an epoch draws its windows without replacement", "[data]") {
  TemporaryFolder folder;
  const TokenDataset dataset({{"a", make_tokens(folder, "a", {1000})}}, {}, /*seed=*/5);
  const int64_t windows = (1000 - 16) / 16;
  std::set<std::vector<int64_t>> orders;
  std::set<int64_t> offsets;
  for (int64_t epoch = 0; epoch < 20; ++epoch) {
    std::vector<int64_t> order;
    std::set<int64_t> tokens;
    for (int64_t i = 0; i < windows; ++i) {
      const auto batch = dataset.batch(epoch * windows + i, 1, 16);
      const auto start = batch.inputs[0][0].item<int64_t>();
      order.push_back(start / 16);
      offsets.insert(start % 16);
      for (const int64_t id : values(batch.inputs)) {
        CHECK(tokens.insert(id).second);
      }
    }
    CHECK(static_cast<int64_t>(tokens.size()) == windows * 16);
    orders.insert(order);
  }
  CHECK(orders.size() == 20);
  CHECK(offsets.size() > 8);
}

TEST_CASE("TokenDataset: the mixture is exact, by size unless weights are given", "[data]") {
  TemporaryFolder folder;
  const std::vector<TokenDomain> domains = {
      {"a", make_tokens(folder, "a", {600})}, {"b", make_tokens(folder, "b", {200})}};
  const auto count = [&](const std::vector<double>& weights) {
    const TokenDataset dataset(domains, weights, 0);
    std::map<int64_t, int64_t> counts;
    for (int64_t step = 0; step < 10; ++step) {
      for (const int64_t domain : values(dataset.batch(step, 4, 8).domains)) {
        ++counts[domain];
      }
    }
    return counts;
  };
  CHECK(count({}) == std::map<int64_t, int64_t>{{0, 30}, {1, 10}});
  CHECK(count({1, 1}) == std::map<int64_t, int64_t>{{0, 20}, {1, 20}});
  CHECK(count({1, 3}) == std::map<int64_t, int64_t>{{0, 10}, {1, 30}});
  CHECK_THROWS_WITH(
      TokenDataset(domains, {1}, 0), ContainsSubstring("1 weights for 2 domains"));
  CHECK_THROWS_WITH(TokenDataset({}, {}, 0), ContainsSubstring("no domain"));
}

TEST_CASE("TokenDataset: too little text is named with what is needed", "[data]") {
  TemporaryFolder folder;
  const TokenDataset dataset(
      {{"a", make_tokens(folder, "a", {600})}, {"de", make_tokens(folder, "b", {16})}}, {}, 0);
  CHECK_THROWS_WITH(
      dataset.batch(0, 1, 16),
      ContainsSubstring("domain 'de' has 16 tokens, one sequence needs 17"));
  CHECK_NOTHROW(dataset.check_sequence_length(15));
  CHECK_NOTHROW(dataset.batch(0, 1, 15));
  CHECK_THROWS_AS(dataset.batch(-1, 1, 15), Error);
  CHECK_THROWS_AS(dataset.batch(0, 0, 15), Error);
  CHECK_THROWS_AS(dataset.batch(0, 1, 0), Error);
}

TEST_CASE("TokenDataset: the document mask follows the end-of-text tokens", "[data]") {
  TemporaryFolder folder;
  const TokenDataset dataset(
      {{"a", make_tokens(folder, "a", {7, 1, 20, 2, 40, 3, 30})}},
      {},
      /*seed=*/0,
      /*document_mask=*/true);
  for (int64_t step = 0; step < 20; ++step) {
    const auto batch = dataset.batch(step, 2, 16);
    const auto ended = batch.inputs == kEndOfText; // [B, S]
    CHECK(torch::equal(batch.loss_mask, ended.logical_not().to(torch::kFloat32)));
    const auto before = ended.to(torch::kInt64).cumsum(1) - ended.to(torch::kInt64);
    CHECK(torch::equal(batch.documents, before));
  }
}

TEST_CASE("EvaluationWindows: each token is predicted exactly once", "[data]") {
  TemporaryFolder folder;
  const auto tokens = make_tokens(folder, "a", {7, 1, 20, 2});
  const auto sequence_length = GENERATE(1, 4, 7, 15, 30, 64);
  const auto batch_size = GENERATE(1, 3);
  const EvaluationWindows windows(tokens, /*domain=*/2, batch_size, sequence_length);
  CHECK(windows.num_tokens() == 30);
  CHECK(windows.text_bytes() == tokens.text_bytes());
  std::vector<int64_t> inputs, targets;
  for (int64_t i = 0; i < windows.num_batches(); ++i) {
    const auto batch = windows.batch(i);
    REQUIRE(batch.inputs.sizes() == torch::IntArrayRef{batch_size, sequence_length});
    REQUIRE(batch.loss_mask.sizes() == batch.inputs.sizes());
    CHECK(values(batch.domains) == std::vector<int64_t>(static_cast<size_t>(batch_size), 2));
    const auto counted = batch.loss_mask == 1;
    CHECK(counted.any().item<bool>());
    for (const int64_t id : values(batch.inputs.masked_select(counted))) {
      inputs.push_back(id);
    }
    for (const int64_t id : values(batch.targets.masked_select(counted))) {
      targets.push_back(id);
    }
  }
  std::vector<int64_t> expected(30);
  tokens.read(0, expected);
  CHECK(targets == expected);
  expected.insert(expected.begin(), kEndOfText);
  expected.pop_back();
  CHECK(inputs == expected);
  CHECK_THROWS_AS(windows.batch(windows.num_batches()), Error);
  CHECK_THROWS_AS(windows.batch(-1), Error);
}

TEST_CASE("EvaluationWindows: a limit counts the bytes of its part", "[data]") {
  TemporaryFolder folder;
  const auto tokens = make_tokens(folder, "a", {7, 1, 20, 2});
  const auto bytes = [&](int64_t max_tokens) {
    const EvaluationWindows windows(tokens, 0, 2, 4, max_tokens);
    CHECK(windows.num_tokens() == std::min<int64_t>(max_tokens, 30));
    float counted = 0;
    for (int64_t i = 0; i < windows.num_batches(); ++i) {
      counted += windows.batch(i).loss_mask.sum().item<float>();
    }
    CHECK(counted == static_cast<float>(windows.num_tokens()));
    return windows.text_bytes();
  };
  CHECK(bytes(7) == 18);
  CHECK(bytes(8) == 18);
  CHECK(bytes(18) == 18 + 29); // half of 57 bytes, rounded
  CHECK(bytes(28) == 18 + 57);
  CHECK(bytes(1000) == tokens.text_bytes());
}

TEST_CASE(
    "EvaluationWindows: with a document mask documents' first tokens do not count", "[data]") {
  TemporaryFolder folder;
  const auto tokens = make_tokens(folder, "a", {7, 1, 20, 2});
  const EvaluationWindows windows(tokens, 0, 2, 8, /*max_tokens=*/0, /*document_mask=*/true);
  float counted = 0;
  for (int64_t i = 0; i < windows.num_batches(); ++i) {
    const auto batch = windows.batch(i);
    counted += batch.loss_mask.sum().item<float>();
    const auto begins = (batch.inputs == kEndOfText).logical_and(batch.loss_mask == 1);
    CHECK_FALSE(begins.any().item<bool>());
  }
  CHECK(counted == 30 - 4);
  CHECK(values(windows.batch(0).documents[0]) == std::vector<int64_t>{0, 1, 1, 1, 1, 1, 1, 1});
  CHECK(values(windows.batch(0).documents[1]) == std::vector<int64_t>{0, 1, 1, 1, 1, 1, 1, 1});
}

namespace {

/// The same documents with the last `replies` tokens of each said by the assistant.
TokenFile make_replies(
    const TemporaryFolder& folder,
    const std::string& name,
    const std::vector<int64_t>& lengths,
    int64_t replies) {
  const auto path = (folder.path() / name).string();
  TokenFileWriter writer(path, 2, "replies", 0);
  for (const int64_t length : lengths) {
    std::vector<int64_t> said(static_cast<size_t>(length - 1));
    std::fill(said.end() - std::min<int64_t>(replies, length - 1), said.end(), 1);
    writer.add(said, replies);
  }
  writer.finish();
  return TokenFile(path, 2, "replies");
}

} // namespace

TEST_CASE("TokenDataset: conversations are packed whole, and only replies count", "[data]") {
  TemporaryFolder folder;
  const std::vector<int64_t> lengths = {6, 5, 30, 4, 7, 3};
  const TokenDomain domain = {
      "chat",
      make_tokens(folder, "chat", lengths),
      make_replies(folder, "chat.replies", lengths, 2)};
  constexpr int64_t kLength = 12;
  const TokenDataset dataset({domain}, {}, /*seed=*/0, /*document_mask=*/false, kLength);
  const auto packing = pack_documents(domain.tokens, kLength, /*seed=*/0);
  CHECK(std::set<int64_t>(packing.order.begin(), packing.order.end()).size() == lengths.size());
  const int64_t rows = packing.num_rows();
  CHECK(rows == 3); // 12, 6 + 5 and 4 + 3 + 2 inputs
  const auto batch = dataset.batch(0, rows, kLength);
  const auto inputs = values(batch.inputs);
  const auto targets = values(batch.targets);
  const auto counts = values(batch.loss_mask);
  const auto documents = values(batch.documents);
  const auto tokens = values(batch.token_mask);
  std::set<int64_t> begun;
  for (size_t i = 0; i < inputs.size(); ++i) {
    CAPTURE(i);
    if (tokens[i] == 0) {
      CHECK(counts[i] == 0);
      continue;
    }
    const int64_t document = domain.tokens.document_of(inputs[i]);
    const int64_t end = domain.tokens.document_begin(document + 1) - 1; // its end of text
    const bool begins = i % kLength == 0 || documents[i] != documents[i - 1];
    if (begins) { // at the first token, so nothing before it is missing
      CHECK(inputs[i] == domain.tokens.document_begin(document));
      CHECK(begun.insert(document).second);
    } else {
      CHECK(domain.tokens.document_of(inputs[i - 1]) == document);
    }
    CHECK(targets[i] == (inputs[i] + 1 == end ? kEndOfText : inputs[i] + 1));
    CHECK(counts[i] == (inputs[i] + 1 >= end - 2 && inputs[i] + 1 < end ? 1 : 0));
  }
  CHECK(begun.size() == lengths.size());
  CHECK(same(batch, dataset.batch(0, rows, kLength)));
  CHECK_THROWS_WITH(dataset.batch(0, 1, 13), ContainsSubstring("packed for 12"));
}

TEST_CASE("TokenDataset: conversations need a reply within a sequence", "[data]") {
  TemporaryFolder folder;
  const std::vector<int64_t> lengths = {20, 30}; // the first reply is ids 17 and 18
  const TokenDomain domain = {
      "chat",
      make_tokens(folder, "chat", lengths),
      make_replies(folder, "chat.replies", lengths, 2)};
  const auto make = [&](int64_t length) {
    return TokenDataset({domain}, {}, /*seed=*/0, /*document_mask=*/false, length);
  };
  CHECK_THROWS_WITH(
      make(16),
      ContainsSubstring("domain 'chat' has no reply") &&
          ContainsSubstring("sequence_length 16"));
  CHECK(make(17).batch(0, 2, 17).loss_mask.sum().item<float>() == 1);
  for (const int64_t length : {16, 17}) {
    const EvaluationWindows windows(
        domain.tokens, 0, 2, length, /*max_tokens=*/0, /*document_mask=*/false, domain.replies);
    CHECK(windows.has_targets() == (length == 17));
  }
}

TEST_CASE("EvaluationWindows: of conversations only replies count", "[data]") {
  TemporaryFolder folder;
  const std::vector<int64_t> lengths = {6, 5, 30};
  const EvaluationWindows windows(
      make_tokens(folder, "chat", lengths),
      /*domain=*/0,
      /*batch_size=*/2,
      /*sequence_length=*/8,
      /*max_tokens=*/0,
      /*document_mask=*/false,
      make_replies(folder, "chat.replies", lengths, 2));
  double sum = 0.0;
  std::set<int64_t> inputs;
  for (int64_t i = 0; i < windows.num_batches(); ++i) {
    const auto batch = windows.batch(i);
    CHECK(batch.documents.defined());
    sum += batch.loss_mask.sum().item<double>();
    const auto seen = values(batch.inputs.masked_select(batch.token_mask));
    inputs.insert(seen.begin(), seen.end());
    const auto row_ends = batch.loss_mask.select(1, 7);
    CHECK(
        row_ends.sum().item<double>() == 0.0); // the end of text, or in the middle of the last
  }
  CHECK(sum == 4.0); // what the longest one replies lies beyond
  CHECK(windows.text_bytes() == 6);
  // Each is seen from its first token on.
  for (const int64_t begin : {0, 6, 11}) {
    for (int64_t id = begin; id < begin + 4; ++id) {
      CHECK(inputs.contains(id));
    }
  }
  const EvaluationWindows first(
      make_tokens(folder, "chat", lengths),
      0,
      2,
      8,
      /*max_tokens=*/7,
      false,
      make_replies(folder, "chat.replies", lengths, 2));
  CHECK(first.num_tokens() == 11); // the conversations that begin there, whole
  CHECK(first.batch(0).loss_mask.sum().item<double>() == 4.0);
  CHECK(first.text_bytes() == 4);
}
