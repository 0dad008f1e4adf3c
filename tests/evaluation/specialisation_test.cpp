#include "moe/evaluation/specialisation.h"

#include <algorithm>
#include <cmath>

#include "tests/support/catch.h"
#include "tests/support/routing_records.h"

using namespace moe;
using namespace moe::testing;

namespace {

double entropy(const std::vector<double>& shares) {
  double bits = 0.0;
  for (const double share : shares) {
    bits -= share > 0.0 ? share * std::log2(share) : 0.0;
  }
  return bits;
}

/// H(expert) - H(expert | domain), with each domain as likely as the others.
double slow_information(const RoutingRecord& record) {
  const auto& layer = record.layers[0];
  const auto num_experts = static_cast<size_t>(layer.num_experts);
  const auto num_domains = static_cast<double>(record.domains.size());
  std::vector<double> mean(num_experts);
  double conditional = 0.0;
  for (size_t domain = 0; domain < record.domains.size(); ++domain) {
    std::vector<double> shares(num_experts);
    double total = 0.0;
    for (const auto& piece : record.pieces) {
      for (int64_t t = piece.begin; t < piece.end; ++t) {
        for (int64_t k = 0; k < layer.experts_per_token; ++k) {
          const auto i = static_cast<size_t>(t * layer.experts_per_token + k);
          if (piece.domain == static_cast<int64_t>(domain)) {
            shares[static_cast<size_t>(layer.experts[i])] += 1.0;
            total += 1.0;
          }
        }
      }
    }
    for (size_t expert = 0; expert < num_experts; ++expert) {
      shares[expert] /= total;
      mean[expert] += shares[expert] / num_domains;
    }
    conditional += entropy(shares) / num_domains;
  }
  return entropy(mean) - conditional;
}

} // namespace

TEST_CASE("mutual_information: by hand", "[evaluation]") {
  CHECK_THAT(mutual_information({{1, 0}, {0, 1}}), WithinAbs(1.0, 1e-12));
  CHECK_THAT(mutual_information({{3, 3}, {3, 3}}), WithinAbs(0.0, 1e-12));
  CHECK_THAT(mutual_information({{1, 2}, {2, 4}}), WithinAbs(0.0, 1e-12));
  // 2 · 3/8 · log2(3/2) + 2 · 1/8 · log2(1/2)
  CHECK_THAT(mutual_information({{3, 1}, {1, 3}}), WithinAbs(0.18872187554, 1e-10));
  CHECK_THAT(
      mutual_information({{5, 0, 0, 0}, {0, 5, 0, 0}, {0, 0, 5, 0}, {0, 0, 0, 5}}),
      WithinAbs(2.0, 1e-12));
  CHECK(mutual_information({}) == 0.0);
  CHECK(mutual_information({{0, 0}, {0, 0}}) == 0.0);
}

TEST_CASE("specialisation: equals the difference of entropies", "[evaluation]") {
  auto record =
      routing_record(3, 4, 2, 20, 5, [](int64_t domain, int64_t, std::mt19937_64& random) {
        return any_experts(domain == 0 ? 5 : 3, 2, random);
      });
  // Another amount of text in one domain.
  record.pieces.pop_back();
  const auto result = specialisation(record, /*shuffles=*/20);
  REQUIRE(result.layers.size() == 1);
  CHECK_THAT(result.layers[0].bits, WithinAbs(slow_information(record), 1e-12));
  CHECK_THAT(result.layers[0].share, WithinAbs(result.layers[0].bits / std::log2(3.0), 1e-12));
}

TEST_CASE("specialisation: an expert for each domain is all that is possible", "[evaluation]") {
  const auto record =
      routing_record(4, 5, 1, 10, 6, [](int64_t domain, int64_t, std::mt19937_64&) {
        return std::vector<int32_t>{static_cast<int32_t>(domain)};
      });
  const auto result = specialisation(record);
  CHECK_THAT(result.layers[0].bits, WithinAbs(2.0, 1e-12));
  CHECK_THAT(result.layers[0].share, WithinAbs(1.0, 1e-12));
  CHECK(result.layers[0].chance_95 < 1.5);
  CHECK(result.unit == ShuffleUnit::document);
  CHECK(result.units == 20);
  CHECK(result.shuffles == 200);
}

TEST_CASE("specialisation: of independent experts no more than chance", "[evaluation]") {
  int above = 0;
  for (uint64_t seed = 0; seed < 40; ++seed) {
    const auto record = routing_record(
        3,
        6,
        1,
        40,
        8,
        [](int64_t, int64_t, std::mt19937_64& random) { return any_experts(8, 2, random); },
        seed);
    const auto layer = specialisation(record, /*shuffles=*/100).layers[0];
    CHECK(layer.bits > 0.0); // the estimate is biased upwards, and so is chance
    CHECK_THAT(layer.bits, WithinAbs(layer.chance_mean, 0.02));
    CHECK(layer.chance_95 >= layer.chance_mean);
    above += layer.bits > layer.chance_95 ? 1 : 0;
  }
  // 5 % of 40 are expected.
  CHECK(above <= 6);
}

TEST_CASE("specialisation: documents of one taste each are no evidence", "[evaluation]") {
  // The experts depend on the document alone, not on what its domain is called.
  const auto by_document = [](int64_t domain, int64_t document, std::mt19937_64&) {
    const auto taste = static_cast<uint64_t>(domain * 31 + document * 17);
    return std::vector<int32_t>{static_cast<int32_t>(taste * 2654435761U % 7)};
  };
  const auto documents = specialisation(routing_record(3, 5, 10, 8, 7, by_document)).layers[0];
  CHECK(documents.bits <= documents.chance_95);
  // Pieces of them, taken for independent, would say the opposite.
  auto record = routing_record(3, 5, 10, 8, 7, by_document);
  for (size_t i = 0; i < record.pieces.size(); ++i) {
    record.pieces[i].document = static_cast<int64_t>(i);
  }
  const auto pieces = specialisation(record).layers[0];
  CHECK(pieces.bits == documents.bits);
  CHECK(pieces.bits > pieces.chance_95);
}

TEST_CASE("specialisation: too few documents are shuffled by pieces", "[evaluation]") {
  const auto any = [](int64_t, int64_t, std::mt19937_64& random) {
    return any_experts(4, 1, random);
  };
  const auto few = specialisation(routing_record(2, 3, 5, 10, 4, any), 10);
  CHECK(few.unit == ShuffleUnit::piece);
  CHECK(few.units == 30);
  CHECK(specialisation(routing_record(2, 4, 5, 10, 4, any), 10).unit == ShuffleUnit::document);
}

TEST_CASE("specialisation: the seed alone decides; one domain tells nothing", "[evaluation]") {
  const auto any = [](int64_t, int64_t, std::mt19937_64& random) {
    return any_experts(4, 1, random);
  };
  const auto record = routing_record(2, 4, 1, 10, 4, any);
  CHECK(
      specialisation(record, 50, 1).layers[0].chance_mean ==
      specialisation(record, 50, 1).layers[0].chance_mean);
  CHECK(
      specialisation(record, 50, 1).layers[0].chance_mean !=
      specialisation(record, 50, 2).layers[0].chance_mean);
  CHECK(specialisation(routing_record(1, 4, 1, 10, 4, any)).layers[0].bits == 0.0);
  CHECK(specialisation(RoutingRecord{{}, {}, {}, {RecordedLayer{}}}).layers[0].bits == 0.0);
}
