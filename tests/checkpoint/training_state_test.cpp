#include "moe/checkpoint/training_state.h"

#include <cmath>
#include <limits>

#include "moe/error.h"
#include "moe/libtorch.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tensor_matchers.h"

using namespace moe;
using moe::testing::SameBits;

namespace {

TrainingState sample_state() {
  TrainingState state;
  state.step = 123;
  state.tokens = int64_t{1} << 60;
  state.seed = -5;
  state.best_validation_loss = 0.1 + 0.2;
  state.best_step = 100;
  state.options = "steps = 10\n# größe \"quoted\"\n";
  state.data_fingerprint = "abc";
  state.libtorch_version = "2.13.0";
  state.dtype = "float32";
  state.device = "cpu";
  state.cpu_capability = "AVX2";
  state.threads = 2;
  state.counters = {{"skipped_steps", 3}};
  state.optimizer.insert("exp_avg/a.weight", torch::randn({3, 4}));
  state.optimizer.insert("exp_avg_sq/a.weight", torch::rand({3, 4}));
  return state;
}

} // namespace

TEST_CASE("The training state comes back exactly", "[checkpoint]") {
  const TemporaryFolder folder;
  auto state = sample_state();
  state.best_validation_loss = GENERATE(
      0.1 + 0.2,
      1.0 / 3.0,
      5e-324,
      std::numeric_limits<double>::max(),
      std::nextafter(2.0, 3.0),
      0.0);
  save_training_state(folder.path(), state);
  const auto read = load_training_state(folder.path());
  CHECK(read.step == state.step);
  CHECK(read.tokens == state.tokens);
  CHECK(read.seed == state.seed);
  CHECK(read.best_validation_loss == state.best_validation_loss);
  CHECK(read.best_step == state.best_step);
  CHECK(read.options == state.options);
  CHECK(read.data_fingerprint == state.data_fingerprint);
  CHECK(read.libtorch_version == state.libtorch_version);
  CHECK(read.dtype == state.dtype);
  CHECK(read.device == state.device);
  CHECK(read.cpu_capability == state.cpu_capability);
  CHECK(read.threads == state.threads);
  CHECK(read.counters == state.counters);
  REQUIRE(read.optimizer.size() == 2);
  for (const auto& item : state.optimizer) {
    CHECK_THAT(read.optimizer[item.key()], SameBits(item.value()));
  }
  CHECK(read.rng.is_empty());
}

TEST_CASE("A random generator goes on where it was", "[checkpoint]") {
  const TemporaryFolder folder;
  auto generator = at::detail::createCPUGenerator(/*seed=*/7);
  torch::rand({5}, generator);
  auto state = sample_state();
  state.rng.insert("cpu", generator.get_state());
  save_training_state(folder.path(), state);
  const auto expected = torch::rand({9}, generator);
  auto resumed = at::detail::createCPUGenerator(/*seed=*/8);
  resumed.set_state(load_training_state(folder.path()).rng["cpu"]);
  CHECK_THAT(torch::rand({9}, resumed), SameBits(expected));
}

TEST_CASE("What has not happened yet comes back as nothing", "[checkpoint]") {
  const TemporaryFolder folder;
  save_training_state(folder.path(), TrainingState());
  const auto read = load_training_state(folder.path());
  CHECK_FALSE(read.best_validation_loss.has_value());
  CHECK_FALSE(read.best_step.has_value());
  CHECK(read.optimizer.is_empty());
  auto state = sample_state();
  state.best_validation_loss = std::nan("");
  CHECK_THROWS_WITH(save_training_state(folder.path(), state), ContainsSubstring("not finite"));
}

TEST_CASE("A damaged training state is refused by name", "[checkpoint]") {
  const TemporaryFolder folder;
  save_training_state(folder.path(), sample_state());
  const auto json = folder.read("training_state.json");
  const auto refuse = [&](const std::string& from, const std::string& to, const char* text) {
    auto changed = json;
    REQUIRE(changed.find(from) != std::string::npos);
    changed.replace(changed.find(from), from.size(), to);
    folder.write("training_state.json", changed);
    CHECK_THROWS_WITH(load_training_state(folder.path()), ContainsSubstring(text));
  };
  refuse(
      "\"step\": 123", "\"step\": 123.0", "training_state.json: step must be a whole number");
  refuse("\"step\": 123", "\"step\": -1", "step -1");
  refuse("\"step\": 123", "\"stop\": 123", "step is missing");
  refuse("\"seed\": -5", "\"seed\": 18446744073709551615", "seed must be");
  refuse("\"dtype\": \"float32\"", "\"dtype\": 5", "dtype must be a text");
  refuse("\"format\": 1", "\"format\": 2", "format 2");
  refuse("}", "", "not valid JSON");
  folder.write("training_state.json", json);
  std::filesystem::resize_file(folder.path() / "training_state.safetensors", 20);
  CHECK_THROWS_WITH(
      load_training_state(folder.path()), ContainsSubstring("training_state.safetensors"));
  std::filesystem::remove(folder.path() / "training_state.json");
  CHECK_THROWS_WITH(load_training_state(folder.path()), ContainsSubstring("cannot open"));
}
