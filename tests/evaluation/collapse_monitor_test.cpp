#include "moe/evaluation/collapse_monitor.h"

#include <algorithm>
#include <random>

#include "moe/error.h"
#include "tests/support/catch.h"

using namespace moe;

namespace {

/// A layer whose rows go to the experts with these odds, drawn row by row.
class Source {
 public:
  explicit Source(int64_t rows, uint64_t seed = 1) : rows_(rows), random_(seed) {}

  LayerRouting draw(const std::vector<double>& odds, int64_t layer = 0) {
    std::discrete_distribution<size_t> expert(odds.begin(), odds.end());
    std::vector<int64_t> counts(odds.size());
    for (int64_t i = 0; i < rows_; ++i) {
      ++counts[expert(random_)];
    }
    auto routing = layer_routing(layer, counts);
    routing.confidence = 0.4;
    return routing;
  }

 private:
  int64_t rows_;
  std::mt19937_64 random_;
};

struct Event {
  int64_t step = 0;
  Collapse collapse;
};

/// Experts that are without load now and then, for some steps each time.
class Wanderers {
 public:
  Wanderers(int64_t fewest, int64_t most) : fewest_(fewest), most_(most) {
    std::generate(turn_.begin(), turn_.end(), [&] { return between(1, 60); });
  }

  std::vector<double> odds(int64_t step) {
    for (size_t i = 0; i < turn_.size(); ++i) {
      if (step == turn_[i]) {
        odds_[i] = 1.0 - odds_[i];
        turn_[i] = step + between(fewest_, most_);
      }
    }
    return odds_;
  }

 private:
  int64_t between(int64_t first, int64_t last) {
    return first + static_cast<int64_t>(random_() % static_cast<uint64_t>(last - first + 1));
  }

  int64_t fewest_;
  int64_t most_;
  std::mt19937_64 random_;
  std::vector<double> odds_ = std::vector<double>(16, 1.0);
  std::vector<int64_t> turn_ = std::vector<int64_t>(16);
};

/// What the monitor says over `steps` steps with the odds of each.
template <class Odds>
std::vector<Event> events(int64_t steps, int64_t rows, const Odds& odds, int64_t k = 1) {
  Source source(rows);
  CollapseMonitor monitor(k);
  std::vector<Event> found;
  for (int64_t step = 1; step <= steps; ++step) {
    for (const auto& collapse : monitor.update(step, {source.draw(odds(step))}).began) {
      found.push_back({step, collapse});
    }
  }
  return found;
}

} // namespace

TEST_CASE("CollapseMonitor: experts that die are found, since when they did", "[evaluation]") {
  const auto found = events(300, 512, [](int64_t step) {
    const double dying = step < 100 ? 1.0 : 0.002;
    return std::vector<double>{1, 1, dying, 1, 1, 1, dying, 1};
  });
  REQUIRE(found.size() == 1);
  CHECK(found[0].step <= 100 + 50);
  CHECK(found[0].collapse.kind == CollapseKind::dead_experts);
  CHECK(found[0].collapse.experts == std::vector<int64_t>{2, 6});
  CHECK(found[0].collapse.num_experts == 8);
  CHECK(found[0].collapse.since_step >= 99);
  CHECK(found[0].collapse.since_step <= 103);
}

TEST_CASE("CollapseMonitor: experts that fade away one by one", "[evaluation]") {
  const auto found = events(400, 2048, [](int64_t step) {
    // Two die within 10 steps of one another, another much later.
    const auto fading = [&](double onset) {
      return std::exp(-std::max(0.0, step - onset) / 5.0);
    };
    return std::vector<double>{1, fading(100), fading(110), fading(250), 1, 1, 1, 1};
  });
  REQUIRE(found.size() == 2);
  CHECK(found[0].collapse.experts == std::vector<int64_t>{1, 2});
  CHECK(found[1].collapse.experts == std::vector<int64_t>{3});
}

TEST_CASE("CollapseMonitor: healthy layers raise no alarm", "[evaluation]") {
  SECTION("uneven loads") {
    CHECK(events(3000, 256, [](int64_t) {
            return std::vector<double>{4, 2, 1, 1, 0.5, 0.2, 0.1, 0.05};
          }).empty());
  }
  SECTION("many experts and few rows") {
    CHECK(events(3000, 16, [](int64_t) { return std::vector<double>(64, 1.0); }).empty());
  }
  SECTION("experts for rare domains") {
    // Batches of one text: each expert serves 1 of 16 domains alone.
    const auto seed = GENERATE(range(0u, 10u));
    std::mt19937_64 random(seed);
    CHECK(events(5000, 128, [&](int64_t) {
            std::vector<double> odds(16, 1e-9);
            odds[random() % odds.size()] = 1.0;
            return odds;
          }).empty());
  }
  SECTION("an expert that rests for 25 steps") {
    CHECK(events(400, 512, [](int64_t step) {
            return std::vector<double>{1, 1, 1, step > 100 && step <= 125 ? 0.0 : 1.0};
          }).empty());
  }
  SECTION("all experts for every token, or only one") {
    CHECK(events(
              200,
              64,
              [](int64_t) {
                return std::vector<double>{1, 1e-9};
              },
              2)
              .empty());
    CHECK(events(200, 64, [](int64_t) { return std::vector<double>{1}; }).empty());
  }
}

TEST_CASE("CollapseMonitor: experts that come back soon are waited for", "[evaluation]") {
  Wanderers wanderers(20, 45);
  const std::vector<size_t> dying = {3, 5, 8, 11, 12, 14};
  const auto found = events(1500, 2048, [&](int64_t step) {
    auto odds = wanderers.odds(step);
    for (const size_t expert : dying) {
      odds[expert] = step < 500 ? odds[expert] : 0.0;
    }
    return odds;
  });
  // Those that do not come back are found, and then the others are waited for as before.
  std::vector<size_t> dead;
  for (const auto& event : found) {
    dead.insert(dead.end(), event.collapse.experts.begin(), event.collapse.experts.end());
    // Others are away for 16 steps more than 16 on average, 30 with those that are dying; four
    // times as many are due, and 16 to gather.
    CHECK(event.step > event.collapse.since_step + 16 + 4 * 14);
    CHECK(event.step < event.collapse.since_step + 32 + 4 * 30);
  }
  std::sort(dead.begin(), dead.end());
  CHECK(dead == dying);
}

TEST_CASE("CollapseMonitor: experts that come back late are not waited for", "[evaluation]") {
  Wanderers wanderers(70, 110);
  const auto found = events(600, 2048, [&](int64_t step) { return wanderers.odds(step); });
  CHECK(found.size() > 10);
  for (const auto& event : found) {
    CHECK(event.step <= event.collapse.since_step + 50);
  }
}

TEST_CASE(
    "CollapseMonitor: one noisy batch neither hides a collapse nor ends it", "[evaluation]") {
  const auto odds = [](int64_t step) {
    const bool is_noise = step == 110 || step == 200;
    return std::vector<double>{1, 1, 1, step >= 100 && !is_noise ? 0.0 : 1.0};
  };
  const auto found = events(300, 512, odds);
  REQUIRE(found.size() == 1);
  CHECK(found[0].step <= 150);
  CHECK(found[0].collapse.since_step == 100);
}

TEST_CASE("CollapseMonitor: waits for as many rows as say something", "[evaluation]") {
  const auto found = events(600, 16, [](int64_t step) {
    std::vector<double> odds(64, 1.0);
    odds[9] = step >= 100 ? 0.0 : 1.0;
    return odds;
  });
  REQUIRE(found.size() == 1);
  CHECK(found[0].collapse.experts == std::vector<int64_t>{9});
  // 100 rows of an expert are 400 steps of 16 rows for 64 experts.
  CHECK(found[0].step >= 490);
  CHECK(found[0].step <= 520);
}

TEST_CASE("CollapseMonitor: says when experts are back, and finds them again", "[evaluation]") {
  Source source(512);
  CollapseMonitor monitor(1);
  std::vector<std::pair<int64_t, std::vector<int64_t>>> began;
  std::vector<std::pair<int64_t, std::vector<int64_t>>> recovered;
  for (int64_t step = 1; step <= 500; ++step) {
    const bool is_dead = (step >= 100 && step < 200) || step >= 300;
    const auto news = monitor.update(step, {source.draw({1, 1, is_dead ? 0.0 : 1.0, 1}, 5)});
    for (const auto& collapse : news.began) {
      began.emplace_back(step, collapse.experts);
    }
    for (const auto& collapse : news.recovered) {
      CHECK(collapse.since_step == 100);
      CHECK(collapse.layer == 5);
      recovered.emplace_back(step, collapse.experts);
    }
    CHECK(monitor.current().size() == began.size() - recovered.size());
  }
  REQUIRE(began.size() == 2);
  REQUIRE(recovered.size() == 1);
  CHECK(recovered[0].first >= 200);
  CHECK(recovered[0].first <= 205);
  CHECK(recovered[0].second == std::vector<int64_t>{2});
  CHECK(began[1].first >= 331);
  CHECK(began[1].first <= 350);
  CHECK(monitor.current().at(0).since_step == 300);
}

TEST_CASE("CollapseMonitor: revived experts are judged anew", "[evaluation]") {
  Source source(512);
  CollapseMonitor monitor(1);
  std::vector<int64_t> steps;
  for (int64_t step = 1; step <= 100; ++step) {
    for (const auto& collapse : monitor.update(step, {source.draw({1, 1, 0, 1})}).began) {
      steps.push_back(step);
      monitor.restart(0, collapse.experts);
      CHECK(monitor.current().empty());
    }
  }
  // Reviving did not help, which is found as late as the first time.
  CHECK(steps == std::vector<int64_t>{32, 64, 96});
  REQUIRE_THROWS_AS(monitor.restart(0, {4}), Error);
}

TEST_CASE("CollapseMonitor: few experts that get nearly everything", "[evaluation]") {
  const auto begins = [](int64_t step) {
    const double others = step < 100 ? 1.0 : 0.01;
    return std::vector<double>{others, others, 1, others, others, others, others, others};
  };
  const auto found = events(300, 512, begins);
  REQUIRE(found.size() == 1);
  CHECK(found[0].collapse.kind == CollapseKind::few_experts);
  CHECK(found[0].collapse.experts == std::vector<int64_t>{2});
  CHECK(found[0].step <= 150);
  CHECK(found[0].collapse.since_step >= 100);
  CHECK(found[0].collapse.since_step <= 115);
  // Two per token: the same loads are only uneven.
  CHECK(events(
            300,
            512,
            [](int64_t) {
              return std::vector<double>{1, 1, 8, 1, 1, 1, 1, 1};
            },
            2)
            .empty());
}

TEST_CASE("CollapseMonitor: a router whose confidence saturates", "[evaluation]") {
  Source source(512);
  CollapseMonitor monitor(1);
  std::vector<int64_t> began;
  std::vector<int64_t> recovered;
  for (int64_t step = 1; step <= 300; ++step) {
    auto routing = source.draw({1, 1, 1, 1});
    routing.confidence = step < 100 ? 0.7 : step < 200 ? 0.999 : 0.8;
    const auto news = monitor.update(step, {routing});
    for (const auto& collapse : news.began) {
      CHECK(collapse.kind == CollapseKind::saturated_router);
      CHECK(collapse.experts.empty());
      began.push_back(step);
    }
    recovered.resize(recovered.size() + news.recovered.size(), step);
  }
  REQUIRE(began.size() == 1);
  CHECK(began[0] <= 150);
  REQUIRE(recovered.size() == 1);
  CHECK(recovered[0] <= 205);
}

TEST_CASE("describe: a collapse in words", "[evaluation]") {
  Collapse collapse;
  collapse.layer = 3;
  collapse.num_experts = 16;
  collapse.since_step = 212;
  collapse.experts = {5};
  CHECK_THAT(
      describe(collapse),
      ContainsSubstring(
          "layer 3: expert 5 (1 of 16) gets less than 1 % of the mean load since step 212"));
  collapse.experts = {0, 1, 2, 7, 9, 10};
  CHECK_THAT(describe(collapse), ContainsSubstring("experts 0-2, 7, 9 and 10 (6 of 16) get "));
  CHECK_THAT(describe(collapse), ContainsSubstring("--on-collapse rebalance"));
  collapse.kind = CollapseKind::few_experts;
  collapse.experts = {4};
  CHECK_THAT(
      describe(collapse),
      ContainsSubstring("layer 3: expert 4 of 16 gets nearly all tokens since step 212"));
  collapse.kind = CollapseKind::saturated_router;
  CHECK_THAT(describe(collapse), ContainsSubstring("layer 3: the router puts more than 99 %"));
  for (const auto kind :
       {CollapseKind::dead_experts,
        CollapseKind::few_experts,
        CollapseKind::saturated_router}) {
    CHECK(collapse_kind(to_string(kind)) == kind);
  }
  REQUIRE_THROWS_WITH(collapse_kind("x"), ContainsSubstring("no kind 'x'"));
}
