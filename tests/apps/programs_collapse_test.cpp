#include "tests/apps/programs.h"

using namespace moe;
using namespace moe::testing;

namespace {

/// Experts die within some 50 steps.
Arguments collapsing(const Arguments& more = {}) {
  Arguments flags = {
      "--steps=120",
      "--eval-every=40",
      "--checkpoint-every=0",
      "--num-experts=8",
      "--load-balancing-weight=0",
      "--router-z-weight=0",
      "--router-lr-ratio=100"};
  flags.insert(flags.end(), more.begin(), more.end());
  return flags;
}

} // namespace

TEST_CASE("A collapse is warned of in the log and recorded", "[programs]") {
  const TemporaryFolder folder;
  const auto out = folder.path() / "run";
  const auto log = train(out, collapsing()).err;
  CHECK_THAT(log, ContainsSubstring("warning: step "));
  CHECK_THAT(log, ContainsSubstring("of the mean load since step "));
  CHECK_THAT(log, ContainsSubstring("--on-collapse rebalance"));
  size_t recorded = 0;
  for (const auto& line : metrics_of(out)) {
    recorded += line.contains("collapse") ? 1 : 0;
    CHECK_FALSE(line.contains("revived"));
    const auto& layer = line["moe"][0];
    CHECK(layer["load"].size() == 8);
    CHECK(layer.contains("similarity") == line.contains("val_loss"));
    CHECK(layer.contains("churn") == (line.contains("val_loss") && line["step"] > 40));
  }
  CHECK(recorded > 0);
}

TEST_CASE("A run goes on exactly across a rebalancing", "[programs]") {
  const TemporaryFolder folder;
  const auto whole = folder.path() / "whole";
  const auto parts = folder.path() / "parts";
  CHECK_THAT(
      train(whole, collapsing({"--on-collapse=rebalance"})).err,
      ContainsSubstring(": revived expert"));
  int64_t revived = 0;
  for (const auto& line : metrics_of(whole)) {
    if (line.contains("revived") && revived == 0) {
      revived = line["step"].get<int64_t>();
      CHECK(
          line["val_loss_after_revival"] <
          1.02 * line["val_loss_before_revival"].get<double>());
    }
  }
  REQUIRE(revived > 0);
  train(
      parts,
      collapsing({"--on-collapse=rebalance", "--stop-after=" + std::to_string(revived - 10)}));
  resume(parts, {"--stop-after=" + std::to_string(revived)});
  resume(parts);
  check_same_run(parts, whole);
}

TEST_CASE(
    "A collapse stops the run when asked to, and the repair is one flag away", "[programs]") {
  const TemporaryFolder folder;
  const auto out = folder.path() / "run";
  auto flags = training_flags(out, collapsing({"--on-collapse=stop"}));
  const auto stopped = run("moe-train", flags);
  CHECK(stopped.exit_code == 1);
  const auto error = last_error_line("moe-train", stopped.err);
  CHECK_THAT(error, ContainsSubstring("--resume with --on-collapse rebalance"));
  const auto step = last_step(out);
  CHECK_THAT(error, ContainsSubstring("step " + std::to_string(step) + ": layer "));
  CHECK(step < 120);
  // What was found before is repaired in the first step.
  const auto next = "--stop-after=" + std::to_string(step + 1);
  CHECK_THAT(
      resume(out, {"--on-collapse=rebalance", next}).err,
      ContainsSubstring(": revived expert"));
}
