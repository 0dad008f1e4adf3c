#include "moe/training/schedule.h"

#include <cmath>

#include "tests/support/catch.h"

using namespace moe;
using Schedule = LearningRateSchedule;

namespace {

TrainerOptions with_schedule(Schedule schedule) {
  TrainerOptions options;
  options.schedule = schedule;
  options.steps = 110;
  options.warmup_steps = 10;
  options.decay_steps = 20;
  options.lr = 2.0;
  options.min_lr_ratio = 0.1;
  return options;
}

} // namespace

TEST_CASE("schedule: warm-up rises from 0 and reaches the peak", "[training]") {
  const auto options = with_schedule(
      GENERATE(Schedule::cosine, Schedule::linear, Schedule::constant, Schedule::wsd));
  CHECK_THAT(learning_rate(1, options), WithinRel(0.2, 1e-12));
  CHECK_THAT(learning_rate(9, options), WithinRel(1.8, 1e-12));
  CHECK_THAT(learning_rate(10, options), WithinRel(2.0, 1e-12));
}

TEST_CASE("schedule: each falls in its own way", "[training]") {
  const auto at = [](Schedule schedule, int64_t step) {
    return learning_rate(step, with_schedule(schedule));
  };
  CHECK_THAT(at(Schedule::cosine, 60), WithinRel(1.1, 1e-12));
  CHECK_THAT(
      at(Schedule::cosine, 35), WithinRel(0.2 + 1.8 * 0.5 * (1.0 + std::sqrt(0.5)), 1e-12));
  CHECK_THAT(at(Schedule::linear, 60), WithinRel(1.1, 1e-12));
  CHECK_THAT(at(Schedule::linear, 35), WithinRel(1.55, 1e-12));
  CHECK(at(Schedule::constant, 110) == 2.0);
  CHECK(at(Schedule::wsd, 90) == 2.0);
  CHECK_THAT(at(Schedule::wsd, 100), WithinRel(1.1, 1e-12));
  for (const auto schedule : {Schedule::cosine, Schedule::linear, Schedule::wsd}) {
    CAPTURE(enum_name(schedule));
    CHECK_THAT(at(schedule, 110), WithinRel(0.2, 1e-12));
    CHECK_THAT(at(schedule, 1000), WithinRel(0.2, 1e-12));
  }
}

TEST_CASE("schedule: unusual lengths give finite rates", "[training]") {
  auto options = with_schedule(
      GENERATE(Schedule::cosine, Schedule::linear, Schedule::constant, Schedule::wsd));
  SECTION("a run shorter than its warm-up") {
    options.steps = 5;
    CHECK_THAT(learning_rate(5, options), WithinRel(1.0, 1e-12));
  }
  SECTION("no warm-up, one step") {
    options.steps = 1;
    options.warmup_steps = 0;
    options.decay_steps = 0;
    CHECK_THAT(
        learning_rate(1, options),
        WithinRel(options.schedule == Schedule::constant ? 2.0 : 0.2, 1e-12));
  }
  SECTION("warm-up to the very end") {
    options.steps = 10;
    CHECK_THAT(learning_rate(9, options), WithinRel(1.8, 1e-12));
  }
}

TEST_CASE("schedule: wsd without a length decays for a fifth of the steps", "[training]") {
  auto options = with_schedule(Schedule::wsd);
  options.steps = 100;
  options.decay_steps = 0;
  CHECK(learning_rate(80, options) == 2.0);
  CHECK_THAT(learning_rate(90, options), WithinRel(1.1, 1e-12));
}
