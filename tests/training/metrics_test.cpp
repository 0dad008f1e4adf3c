#include "moe/training/metrics.h"

#include <cmath>
#include <csignal>
#include <limits>

#include "moe/error.h"
#include "tests/support/catch.h"
#include "tests/support/file_size_limit.h"
#include "tests/support/temporary_folder.h"

using namespace moe;

namespace {

StepMetrics at_step(int64_t step) {
  StepMetrics metrics;
  metrics.step = step;
  metrics.loss = 3.21;
  metrics.lr = 0.0006;
  metrics.grad_norm = 0.84;
  metrics.tokens_per_s = 5123.0;
  metrics.tokens = 2048 * step;
  return metrics;
}

std::string lines(int64_t first, int64_t last) {
  std::string text;
  for (int64_t step = first; step <= last; ++step) {
    text += metrics_line(at_step(step));
  }
  return text;
}

} // namespace

TEST_CASE("metrics: a step is one line of JSON", "[training]") {
  auto metrics = at_step(100);
  metrics.moe.resize(1);
  metrics.moe[0].rows = 9;
  metrics.moe[0].load = {1.0 / 3.0, 2.0 / 3.0};
  metrics.moe[0].max_violation = 0.31;
  metrics.moe[0].entropy = 0.97;
  metrics.moe[0].dead = 0.0;
  metrics.moe[0].dropped = 0.125;
  metrics.moe[0].confidence = 0.5;
  CHECK(
      metrics_line(metrics) ==
      R"({"step":100,"loss":3.21,"lr":0.0006,"grad_norm":0.84,"tokens_per_s":5123.0,)"
      R"("tokens":204800,"moe":[{"layer":0,"rows":9,"load":[0.333333,0.666667],)"
      R"("max_violation":0.31,"entropy":0.97,"dead":0.0,"dropped":0.125,"confidence":0.5}]})"
      "\n");
}

TEST_CASE("metrics: what is known of some steps only is left out of others", "[training]") {
  auto metrics = at_step(1);
  metrics.val_loss = 3.5;
  metrics.load_balancing_loss = 1.25;
  metrics.router_z_loss = 0.5;
  metrics.routing_losses = {{"importance_loss", 0.25}};
  metrics.loss = std::numeric_limits<double>::quiet_NaN();
  CHECK(
      metrics_line(metrics) ==
      R"({"step":1,"loss":null,"val_loss":3.5,"lr":0.0006,"grad_norm":0.84,)"
      R"("tokens_per_s":5123.0,"tokens":2048,"load_balancing_loss":1.25,"router_z_loss":0.5,)"
      R"("importance_loss":0.25,"moe":[]})"
      "\n");
}

TEST_CASE("metrics: collapses of the routing are listed with the step", "[training]") {
  auto metrics = at_step(7);
  metrics.collapse.push_back({CollapseKind::dead_experts, 1, 8, {2, 5}, 3});
  metrics.recovered.push_back({CollapseKind::saturated_router, 0, 8, {}, 1});
  metrics.revived.push_back({1, {2, 5}, {0, 0}});
  const auto line = metrics_line(metrics);
  CHECK_THAT(
      line,
      ContainsSubstring(
          R"("collapse":[{"kind":"dead_experts","layer":1,"num_experts":8,"experts":[2,5],)"
          R"("since_step":3}],"recovered":[{"kind":"saturated_router","layer":0,)"
          R"("num_experts":8,"experts":[],"since_step":1}],)"
          R"("revived":[{"layer":1,"experts":[2,5],"donors":[0,0]}]})"));
}

TEST_CASE("metrics: a line is read as it was written", "[training]") {
  auto metrics = at_step(100);
  metrics.val_loss = 3.5;
  metrics.load_balancing_loss = 1.25;
  metrics.collapse.push_back({CollapseKind::few_experts, 1, 8, {2, 5}, 3});
  metrics.recovered.push_back({CollapseKind::saturated_router, 0, 8, {}, 1});
  metrics.revived.push_back({1, {2, 5}, {0, 0}});
  metrics.moe.push_back(layer_routing(1, {3, 1, 0, 4}));
  metrics.moe[0].churn = 0.25;
  metrics.moe[0].similarity = -0.5;
  const auto read = read_metrics_line(metrics_line(metrics)).value();
  CHECK(metrics_line(read) == metrics_line(metrics));
  CHECK(read.collapse == metrics.collapse);
  CHECK(read.revived == metrics.revived);
  CHECK(read.moe[0].load == metrics.moe[0].load);
  CHECK(read.moe[0].churn == 0.25);

  metrics.loss = std::numeric_limits<double>::infinity();
  CHECK(std::isnan(read_metrics_line(metrics_line(metrics)).value().loss));
}

TEST_CASE("metrics: whole rows follow from rounded loads", "[training]") {
  auto metrics = at_step(1);
  const std::vector<int64_t> counts = {1, 2, 1234567, 98765432, 3};
  metrics.moe.push_back(layer_routing(0, counts));
  const auto read = read_metrics_line(metrics_line(metrics)).value();
  for (size_t i = 0; i < counts.size(); ++i) {
    const double rows = read.moe[0].load[i] * static_cast<double>(read.moe[0].rows);
    CHECK(std::llround(rows) == counts[i]);
  }
}

TEST_CASE("metrics: damaged lines are none", "[training]") {
  const std::string line = metrics_line(at_step(1));
  CHECK_FALSE(read_metrics_line(line.substr(0, line.size() - 3)));
  CHECK_FALSE(read_metrics_line("[]"));
  CHECK_FALSE(read_metrics_line(R"({"step":1})"));
  auto replaced = [&](const std::string& text, const std::string& by) {
    std::string changed = line;
    changed.replace(changed.find(text), text.size(), by);
    return changed;
  };
  CHECK_FALSE(read_metrics_line(replaced(R"("step":1)", R"("step":1e300)")));
  CHECK_FALSE(read_metrics_line(replaced(R"("moe":[])", R"("moe":[7])")));
  CHECK_FALSE(
      read_metrics_line(replaced(R"("moe":[])", R"("moe":[],"collapse":[{"kind":"x"}])")));
  // A run of an earlier version.
  const auto early = read_metrics_line(replaced(
      R"("moe":[])", R"("moe":[{"layer":0,"max_violation":0.5,"entropy":1.0,"dead":0.0}])"));
  CHECK(early.value().moe.at(0).max_violation == 0.5);
  CHECK(early.value().moe.at(0).load.empty());
}

TEST_CASE("metrics: a file is read up to its first damaged line", "[training]") {
  const TemporaryFolder folder;
  folder.write("metrics.jsonl", lines(1, 3) + "{}\n" + lines(5, 6));
  std::vector<int64_t> steps;
  read_metrics(folder.path() / "metrics.jsonl", [&](const StepMetrics& metrics) {
    steps.push_back(metrics.step);
  });
  CHECK(steps == std::vector<int64_t>{1, 2, 3});
  REQUIRE_THROWS_WITH(
      read_metrics(folder.path() / "none.jsonl", [](const StepMetrics&) {}),
      ContainsSubstring("none.jsonl: cannot read"));
}

TEST_CASE("metrics: a resumed run goes on behind its checkpoint's step", "[training]") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "metrics.jsonl";
  const std::string whole = lines(1, 5);
  std::string before = whole;
  int64_t kept = 3;
  SECTION("whole lines") {}
  SECTION("a last line half written") {
    before = whole + metrics_line(at_step(6)).substr(0, 20);
  }
  SECTION("a line half written before the checkpoint's step") {
    before = lines(1, 2) + metrics_line(at_step(3)).substr(0, 20);
    kept = 2;
  }
  SECTION("a last line without its end") {
    before = lines(1, 3);
    before.pop_back();
    kept = 2;
  }
  SECTION("zeros after a crash") {
    before = lines(1, 3) + std::string(100, '\0');
  }
  SECTION("no objects") {
    before = lines(1, 2) + "[]\n{\"step\":\"3\"}\n";
    kept = 2;
  }
  SECTION("nothing") {
    before = "";
    kept = 0;
  }
  folder.write("metrics.jsonl", before);
  {
    MetricsFile file(path, /*last_step=*/3);
    CHECK(folder.read("metrics.jsonl") == lines(1, kept));
    file.append(at_step(4));
    // Without closing the file: a killed run has lost nothing.
    CHECK(folder.read("metrics.jsonl") == lines(1, kept) + lines(4, 4));
  }
}

TEST_CASE("metrics: a new run starts an empty file", "[training]") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "metrics.jsonl";
  MetricsFile(path, 0).append(at_step(1));
  CHECK(folder.read("metrics.jsonl") == lines(1, 1));
  MetricsFile(path, 0).append(at_step(1));
  CHECK(folder.read("metrics.jsonl") == lines(1, 1));
}

TEST_CASE("metrics: what cannot be written is named", "[training]") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "metrics.jsonl";
  REQUIRE_THROWS_WITH(
      MetricsFile(folder.path() / "none" / "metrics.jsonl", 0),
      ContainsSubstring("metrics.jsonl: cannot write: No such file"));
  REQUIRE_THROWS_AS(MetricsFile(folder.path(), 0), Error);
  MetricsFile file(path, 0);
  const auto before = std::signal(SIGXFSZ, SIG_IGN);
  {
    const FileSizeLimit limit(30);
    REQUIRE_THROWS_WITH(
        file.append(at_step(1)),
        ContainsSubstring("metrics.jsonl: cannot write: File too large"));
  }
  std::signal(SIGXFSZ, before);
  // The half line is gone after a resume.
  MetricsFile(path, 1).append(at_step(1));
  CHECK(folder.read("metrics.jsonl") == lines(1, 1));
}
