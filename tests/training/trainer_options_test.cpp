#include "moe/training/trainer_options.h"

#include <limits>

#include "moe/error.h"
#include "tests/support/catch.h"

using namespace moe;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double nan_value = std::numeric_limits<double>::quiet_NaN();

template <class Value>
std::string refusal(Value TrainerOptions::*field, Value value) {
  TrainerOptions options;
  options.*field = value;
  try {
    validate(options);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

} // namespace

TEST_CASE("TrainerOptions: the defaults are valid", "[training]") {
  CHECK_NOTHROW(validate(TrainerOptions()));
}

TEST_CASE("TrainerOptions: impossible numbers are named with the allowed ones", "[training]") {
  using O = TrainerOptions;
  CHECK(refusal(&O::steps, int64_t{0}) == "steps: 0 is not possible; at least 1");
  CHECK(refusal(&O::batch_size, int64_t{-1}) == "batch_size: -1 is not possible; at least 1");
  CHECK(refusal(&O::lr, 0.0) == "lr: 0 is not possible; a number above 0");
  CHECK(
      refusal(&O::min_lr_ratio, 1.5) ==
      "min_lr_ratio: 1.5 is not possible; a number from 0 to 1");
  CHECK(
      refusal(&O::threads, int64_t{1000000}) == "threads: 1000000 is not possible; 0 to 4096");
  for (const auto field :
       {&O::sequence_length,
        &O::accumulation_steps,
        &O::eval_tokens,
        &O::keep_checkpoints,
        &O::log_every}) {
    CHECK_THAT(refusal(field, int64_t{0}), ContainsSubstring("at least 1"));
  }
  for (const auto field :
       {&O::seed,
        &O::warmup_steps,
        &O::decay_steps,
        &O::lora_rank,
        &O::balancing_devices,
        &O::eval_every,
        &O::checkpoint_every}) {
    CHECK_THAT(refusal(field, int64_t{-1}), ContainsSubstring("at least 0"));
    CHECK(refusal(field, int64_t{0}).empty());
  }
  for (const auto field :
       {&O::lora_alpha,
        &O::lr,
        &O::min_lr_ratio,
        &O::weight_decay,
        &O::beta1,
        &O::beta2,
        &O::epsilon,
        &O::max_grad_norm,
        &O::router_lr_ratio,
        &O::router_weight_decay_ratio,
        &O::load_balancing_weight,
        &O::global_balancing_weight,
        &O::sequence_balancing_weight,
        &O::pooled_balancing_weight,
        &O::device_balancing_weight,
        &O::communication_balancing_weight,
        &O::importance_weight,
        &O::router_z_weight,
        &O::selection_bias_rate}) {
    for (const double value : {-0.5, infinity, nan_value}) {
      CHECK_THAT(refusal(field, value), ContainsSubstring("is not possible"));
    }
  }
  CHECK_THAT(refusal(&O::beta1, 1.0), ContainsSubstring("0 to below 1"));
  CHECK_THAT(
      refusal(&O::batch_size, std::numeric_limits<int64_t>::max()),
      ContainsSubstring("cannot be counted"));
}

TEST_CASE("TrainerOptions: unknown words are named with the known ones", "[training]") {
  using O = TrainerOptions;
  CHECK(
      refusal(&O::device, std::string("gpu")) == "device: 'gpu' is not possible; cpu or cuda");
  CHECK(
      refusal(&O::dtype, std::string("float16")) ==
      "dtype: 'float16' is not possible; auto, float32 or bfloat16");
  CHECK_THROWS_WITH(
      enum_from_name<LearningRateSchedule>("schedule", "cosin"),
      "schedule: 'cosin' is not possible; cosine, linear, constant or wsd");
  CHECK_THROWS_WITH(
      enum_from_name<OnNonFinite>("on_nonfinite", ""),
      "on_nonfinite: '' is not possible; stop or skip");
  CHECK_THROWS_WITH(
      enum_from_name<SelectionBiasUpdate>("selection_bias_update", "linear"),
      "selection_bias_update: 'linear' is not possible; sign or proportional");
}

TEST_CASE("TrainerOptions: adapters learn alone", "[training]") {
  using O = TrainerOptions;
  using Texts = std::vector<std::string>;
  CHECK_THAT(
      refusal(&O::lora_targets, Texts{"norms"}),
      ContainsSubstring("lora_targets: 'norms' is not possible; head, attention, router"));
  CHECK_THAT(
      refusal(&O::lora_targets, Texts{"experts"}),
      ContainsSubstring("lora_rank: 0 is not possible; at least 1 beside lora_targets"));
  TrainerOptions options;
  options.lora_rank = 8;
  options.lora_targets = {"experts", "attention"};
  CHECK_NOTHROW(validate(options));
  options.freeze = {"router"};
  CHECK_THROWS_WITH(
      validate(options), ContainsSubstring("lora_rank: 8 is not possible; without freeze"));
}

TEST_CASE("TrainerOptions: what would do nothing is refused", "[training]") {
  using O = TrainerOptions;
  CHECK(
      refusal(&O::lora_alpha, 4.0) ==
      "lora_rank: 0 is not possible; at least 1 beside lora_alpha");
  CHECK(
      refusal(&O::balancing_devices, int64_t{2}) ==
      "balancing_devices: 2 is not possible; only with a device_balancing_weight or "
      "communication_balancing_weight");
  for (const auto field : {&O::device_balancing_weight, &O::communication_balancing_weight}) {
    TrainerOptions options;
    options.balancing_devices = 2;
    options.*field = 0.1;
    CHECK_NOTHROW(validate(options));
  }
}

TEST_CASE("TrainerOptions: the parts that learn have names", "[training]") {
  using O = TrainerOptions;
  using Texts = std::vector<std::string>;
  for (const auto field : {&O::freeze, &O::only}) {
    CHECK_THAT(
        refusal(field, Texts{"router", "expert"}),
        ContainsSubstring("expert is not one of embedding, head"));
    CHECK_THAT(refusal(field, Texts{"norms=1"}), ContainsSubstring("norms=1 is not possible"));
    CHECK_THAT(refusal(field, Texts{"experts=a"}), ContainsSubstring("experts=3,5"));
    CHECK(refusal(field, Texts{"router", "experts=3,5", "new-experts"}).empty());
  }
  CHECK_THAT(refusal(&O::freeze, Texts{"x"}), ContainsSubstring("freeze: x"));
  CHECK_THAT(refusal(&O::only, Texts{"x"}), ContainsSubstring("only: x"));
}

TEST_CASE("TrainerOptions: data, mixture and tokenizer have their forms", "[training]") {
  using O = TrainerOptions;
  using Texts = std::vector<std::string>;
  for (const char* source : {"", "=path", "name="}) {
    CAPTURE(source);
    CHECK_THAT(refusal(&O::data, Texts{source}), ContainsSubstring("PATH or NAME=PATH"));
    CHECK_THAT(refusal(&O::val_data, Texts{source}), ContainsSubstring("val_data: "));
  }
  CHECK(refusal(&O::data, Texts{"a", "en=a=b"}).empty());
  for (const char* entry : {"en", "en=", "=1", "en=x", "en=-1", "en=inf", "en=nan", "en=1x"}) {
    CAPTURE(entry);
    CHECK_THAT(refusal(&O::mix, Texts{entry}), ContainsSubstring("NAME=WEIGHT"));
  }
  CHECK(refusal(&O::mix, Texts{"en=0.5", "de=2"}).empty());
  for (const char* tokenizer : {"", "bpe:", "bpe:256", "bpe:x", "bpe:8192x"}) {
    CAPTURE(tokenizer);
    CHECK_THAT(refusal(&O::tokenizer, std::string(tokenizer)), ContainsSubstring("bpe:SIZE"));
  }
  for (const char* tokenizer : {"bytes", "chars", "bpe:257", "folder/tokenizer.json"}) {
    CAPTURE(tokenizer);
    CHECK(refusal(&O::tokenizer, std::string(tokenizer)).empty());
  }
}

TEST_CASE("TrainerOptions: a decay longer than the run matters to wsd only", "[training]") {
  TrainerOptions options;
  options.decay_steps = options.steps + 1;
  CHECK_NOTHROW(validate(options));
  options.schedule = LearningRateSchedule::wsd;
  REQUIRE_THROWS_WITH(
      validate(options),
      ContainsSubstring("decay_steps: 1001 is not possible; 0 to steps (1000)"));
}
