#include "moe/training/metrics.h"

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
  metrics.moe[0].max_violation = 0.31;
  metrics.moe[0].entropy = 0.97;
  metrics.moe[0].dead = 0.0;
  CHECK(
      metrics_line(metrics) ==
      R"({"step":100,"loss":3.21,"lr":0.0006,"grad_norm":0.84,"tokens_per_s":5123.0,)"
      R"("tokens":204800,"moe":[{"layer":0,"max_violation":0.31,"entropy":0.97,"dead":0.0}]})"
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
