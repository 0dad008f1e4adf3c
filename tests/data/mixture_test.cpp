#include "moe/data/mixture.h"

#include <cmath>
#include <limits>
#include <map>

#include "moe/error.h"
#include "tests/support/catch.h"

using namespace moe;

namespace {

std::map<int64_t, int64_t> count_domains(const Mixture& mixture, int64_t begin, int64_t end) {
  std::map<int64_t, int64_t> counts;
  for (int64_t row = begin; row < end; ++row) {
    ++counts[mixture.place(row).domain];
  }
  return counts;
}

} // namespace

TEST_CASE("Mixture: even domains are even in every block of one row each", "[data]") {
  const Mixture mixture({1, 1, 1, 1, 1, 1}, /*seed=*/0);
  REQUIRE(mixture.block_size() == 6);
  for (int64_t block = 0; block < 50; ++block) {
    for (const auto& [domain, count] : count_domains(mixture, block * 6, block * 6 + 6)) {
      CAPTURE(block, domain);
      CHECK(count == 1);
    }
  }
}

TEST_CASE("Mixture: a block has the exact quota of each domain", "[data]") {
  const Mixture mixture({5, 0, 2, 3}, /*seed=*/1);
  REQUIRE(mixture.block_size() == 10);
  CHECK(count_domains(mixture, 70, 80) == std::map<int64_t, int64_t>{{0, 5}, {2, 2}, {3, 3}});
}

TEST_CASE("Mixture: uneven weights are met within a thousandth", "[data]") {
  const std::vector<double> weights = {1131486, 884000, 726000, 950000, 897000, 4.2e6};
  const Mixture mixture(weights, /*seed=*/0);
  double sum = 0;
  for (const double weight : weights) {
    sum += weight;
  }
  const auto counts = count_domains(mixture, 0, mixture.block_size());
  for (size_t i = 0; i < weights.size(); ++i) {
    const double wanted = weights[i] / sum * static_cast<double>(mixture.block_size());
    const auto found = static_cast<double>(counts.at(static_cast<int64_t>(i)));
    CAPTURE(i, wanted, found);
    CHECK(std::abs(found - wanted) <= 1.001e-3 * wanted);
  }
}

TEST_CASE("Mixture: the index counts a domain's rows without gap or repetition", "[data]") {
  const Mixture mixture({1, 2, 4}, /*seed=*/3);
  std::map<int64_t, std::vector<bool>> seen;
  for (int64_t row = 0; row < 7 * 20; ++row) {
    const auto place = mixture.place(row);
    auto& indices = seen[place.domain];
    indices.resize(100);
    REQUIRE(place.index < 100);
    REQUIRE_FALSE(indices[static_cast<size_t>(place.index)]);
    indices[static_cast<size_t>(place.index)] = true;
  }
  for (int64_t domain = 0; domain < 3; ++domain) {
    const auto& indices = seen[domain];
    const auto rows = 20 << domain;
    for (int64_t i = 0; i < 100; ++i) {
      REQUIRE(indices[static_cast<size_t>(i)] == (i < rows));
    }
  }
}

TEST_CASE("Mixture: a tiny weight gets a row in every block", "[data]") {
  const Mixture mixture({1e9, 1}, /*seed=*/0);
  const auto counts = count_domains(mixture, 0, mixture.block_size());
  CHECK(counts.at(1) == 1);
}

TEST_CASE("Mixture: the order depends on the seed only", "[data]") {
  const Mixture a({1, 1, 1, 1}, 0), same({2, 2, 2, 2}, 0), other({1, 1, 1, 1}, 1);
  bool different = false;
  for (int64_t row = 0; row < 40; ++row) {
    CHECK(a.place(row).domain == same.place(row).domain);
    different = different || a.place(row).domain != other.place(row).domain;
  }
  CHECK(different);
}

TEST_CASE("Mixture: weights that mean nothing are errors", "[data]") {
  CHECK_THROWS_AS(Mixture({}, 0), Error);
  CHECK_THROWS_AS(Mixture({0, 0}, 0), Error);
  CHECK_THROWS_AS(Mixture({1, -1}, 0), Error);
  CHECK_THROWS_AS(Mixture({1, std::nan("")}, 0), Error);
  CHECK_THROWS_AS(Mixture({1, std::numeric_limits<double>::infinity()}, 0), Error);
}

TEST_CASE("parse_mixture reads a weight for every domain", "[data]") {
  const std::vector<std::string> domains = {"en", "de"};
  CHECK(parse_mixture({}, domains).empty());
  CHECK(parse_mixture({"de=0.5", "en=2"}, domains) == std::vector<double>{2, 0.5});
  CHECK(parse_mixture({"de=0", "en=1e1"}, domains) == std::vector<double>{10, 0});
}

TEST_CASE("parse_mixture names what is wrong", "[data]") {
  const std::vector<std::string> domains = {"en", "de"};
  const auto error = [&](std::vector<std::string> entries, const std::string& part) {
    CAPTURE(part);
    CHECK_THROWS_WITH(parse_mixture(entries, domains), ContainsSubstring(part));
  };
  error({"en"}, "'en' is not NAME=WEIGHT");
  error({"en=", "de=1"}, "'en=' is not NAME=WEIGHT");
  error({"en=1x", "de=1"}, "'en=1x'");
  error({"en=-1", "de=1"}, "'en=-1'");
  error({"en=inf", "de=1"}, "'en=inf'");
  error({"en=nan", "de=1"}, "'en=nan'");
  error({"fr=1"}, "no data is named 'fr'; the domains are en, de");
  error({"en=1", "en=2", "de=1"}, "'en' has two weights");
  error({"en=1"}, "'de' has no weight");
  error({"en=0", "de=0"}, "all weights are 0");
}
