#include "moe/evaluation/token_preferences.h"

#include <algorithm>
#include <set>

#include "tests/support/catch.h"
#include "tests/support/routing_records.h"

using namespace moe;
using namespace moe::testing;

TEST_CASE("token_preferences: by hand", "[evaluation]") {
  RoutingRecord record;
  record.domains = {"text"};
  record.ids = {7, 7, 7, 7, 8, 8, 8, 8, 9, 9};
  record.pieces = {{0, 0, 0, 10}};
  record.layers = {{0, 2, 1, {0, 0, 0, 1, 1, 1, 1, 1, 0, 0}, std::vector<float>(10, 1.0F)}};
  const auto liked = token_preferences(record, record.layers[0], 3, 10);
  REQUIRE(liked.size() == 2);
  // Expert 0 has half of all tokens, of token 7 three quarters. Token 9 is too rare.
  REQUIRE(liked[0].size() == 1);
  CHECK(liked[0][0].id == 7);
  CHECK(liked[0][0].chosen == 3);
  CHECK(liked[0][0].occurrences == 4);
  CHECK_THAT(liked[0][0].lift, WithinAbs(1.5, 1e-12));
  REQUIRE(liked[1].size() == 1);
  CHECK(liked[1][0].id == 8);
  CHECK_THAT(liked[1][0].lift, WithinAbs(2.0, 1e-12));
  // With token 9, expert 0 likes it most.
  CHECK(token_preferences(record, record.layers[0], 2, 10)[0][0].id == 9);
  CHECK(token_preferences(record, record.layers[0], 2, 1)[0].size() == 1);
}

TEST_CASE("token_preferences: equal a count over all tokens", "[evaluation]") {
  const auto record =
      routing_record(2, 3, 2, 100, 6, [](int64_t, int64_t, std::mt19937_64& random) {
        return any_experts(random() % 3 == 0 ? 6 : 4, 2, random);
      });
  const auto& layer = record.layers[0];
  const int64_t min_occurrences = 20;
  const auto liked = token_preferences(record, layer, min_occurrences, 100);
  for (int32_t expert = 0; expert < 6; ++expert) {
    std::set<int32_t> expected;
    for (int32_t id = 0; id < 50; ++id) {
      double occurrences = 0;
      double chosen = 0;
      double all_chosen = 0;
      for (size_t t = 0; t < record.ids.size(); ++t) {
        const bool chooses =
            layer.experts[2 * t] == expert || layer.experts[2 * t + 1] == expert;
        all_chosen += chooses;
        occurrences += record.ids[t] == id;
        chosen += record.ids[t] == id && chooses;
      }
      const double lift =
          chosen / occurrences / (all_chosen / static_cast<double>(record.ids.size()));
      const auto& list = liked[static_cast<size_t>(expert)];
      const auto found = std::find_if(
          list.begin(), list.end(), [id](const auto& token) { return token.id == id; });
      CAPTURE(expert, id, lift, occurrences);
      REQUIRE((found != list.end()) == (occurrences >= min_occurrences && lift > 1.0));
      if (found != list.end()) {
        CHECK_THAT(found->lift, WithinRel(lift, 1e-12));
        CHECK(found->chosen == static_cast<int64_t>(chosen));
        CHECK(found->occurrences == static_cast<int64_t>(occurrences));
      }
    }
  }
  for (const auto& list : liked) {
    CHECK(std::is_sorted(list.begin(), list.end(), [](const auto& a, const auto& b) {
      return a.lift > b.lift;
    }));
  }
}
