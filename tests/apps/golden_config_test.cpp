#include <filesystem>
#include <vector>

#include "apps/command_line.h"
#include "moe/checkpoint/huggingface/config.h"
#include "moe/decoder/router_presets.h"
#include "moe/training/trainer_options.h"
#include "tests/support/golden.h"

using namespace moe;
using moe::testing::check_golden;

namespace {

/// The options of models/`preset`.toml.
DecoderOptions preset_options(const std::string& preset) {
  DecoderOptions model;
  TrainerOptions training;
  CommandLine line("moe-test", "");
  line.add_options(training, training_groups());
  line.add_options(model, model_groups());
  line.add_config();
  const std::string file = std::string(MOE_PRESETS) + "/" + preset + ".toml";
  const std::vector<const char*> arguments = {"moe-test", "--config", file.c_str()};
  line.parse(static_cast<int>(arguments.size()), arguments.data());
  model.vocab_size = 1000;
  return model;
}

void check_config(const std::string& name, const DecoderOptions& options) {
  ConfigExtras extras;
  extras.load_balancing_weight = 0.01;
  extras.eos_token_ids = {999};
  check_golden("options/config/" + name + ".json", write_config(options, extras).config);
}

} // namespace

TEST_CASE("config.json of every preset is as it was", "[options]") {
  for (const auto& entry : std::filesystem::directory_iterator(MOE_PRESETS)) {
    if (entry.path().extension() == ".toml") {
      const auto preset = entry.path().stem().string();
      check_config(preset, preset_options(preset));
    }
  }
}

TEST_CASE("config.json of every router is as it was", "[options]") {
  const auto nano = preset_options("nano");
  for (const auto& preset : router_presets()) {
    auto options = with_router_preset(nano, preset.name);
    const bool groups = selects_by_groups(options.router);
    options.router.groups = groups ? 2 : 1;
    options.router.sees_future = preset.name == "expert-choice";
    check_config("router-" + std::string(preset.name), options);
  }
}
