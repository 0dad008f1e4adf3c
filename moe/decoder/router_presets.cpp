#include "moe/decoder/router_presets.h"

#include <array>

#include "moe/error.h"

namespace moe {
namespace {

using Change = void (*)(DecoderOptions&);

struct Entry {
  RouterPreset preset;
  Change change; ///< from the defaults: top_k of softmax scores, divided by their sum
};

const std::array<Entry, 11>& entries() {
  static const std::array<Entry, 11> all{{
      {{"switch",
        "one expert, weighted with its softmax score; capacity 1.25, jitter (arXiv 2101.03961)",
        0.01,
        0.0},
       [](DecoderOptions& options) {
         options.experts_per_token = 1;
         options.router.normalize_weights = false;
         options.router.capacity_factor = 1.25;
         options.router.jitter = 0.01;
       }},
      {{"gshard",
        "two experts, their scores divided by their sum; capacity 1 (arXiv 2006.16668, whose "
        "second expert is drawn at random)",
        0.01,
        0.0},
       [](DecoderOptions& options) {
         options.experts_per_token = 2;
         options.router.capacity_factor = 1.0;
       }},
      {{"mixtral", "two experts, softmax over the chosen (arXiv 2401.04088)", {}, {}},
       [](DecoderOptions& options) { options.experts_per_token = 2; }},
      {{"olmoe", "softmax scores as they are (arXiv 2409.02060)", 0.01, 0.001},
       [](DecoderOptions& options) { options.router.normalize_weights = false; }},
      {{"deepseek-v2",
        "softmax scores as they are, within the groups with the best expert (arXiv 2405.04434, "
        "without its scaling by 16)",
        0.003,
        0.0},
       [](DecoderOptions& options) {
         options.router.normalize_weights = false;
         options.router.selection = RouterSelection::groups_by_max;
       }},
      {{"deepseek-v3",
        "sigmoid scores, chosen with a balancing bias within the groups with the best two, "
        "divided by their sum, times 2.5 (arXiv 2412.19437)",
        0.0001,
        0.0},
       [](DecoderOptions& options) {
         options.router.score = RouterScore::sigmoid;
         options.router.selection = RouterSelection::groups_by_top2;
         options.router.selection_bias = true;
         options.router.routed_scaling_factor = 2.5;
       }},
      {{"gpt-oss", "softmax over the chosen, logits with a bias (arXiv 2508.10925)", {}, {}},
       [](DecoderOptions& options) { options.router.bias = true; }},
      {{"llama4", "one expert, whose input is multiplied with its sigmoid score", {}, {}},
       [](DecoderOptions& options) {
         options.experts_per_token = 1;
         options.router.score = RouterScore::sigmoid;
         options.router.normalize_weights = false;
         options.router.weights_on_input = true;
       }},
      {{"st-moe",
        "two experts, their scores divided by their sum; capacity 1.25 (arXiv 2202.08906)",
        0.01,
        0.001},
       [](DecoderOptions& options) {
         options.experts_per_token = 2;
         options.router.capacity_factor = 1.25;
       }},
      {{"expert-choice",
        "each expert chooses its tokens, weighted with softmax scores (arXiv 2202.09368); "
        "needs "
        "router_sees_future",
        0.0,
        0.0},
       [](DecoderOptions& options) {
         options.router.selection = RouterSelection::expert_choice;
         options.router.normalize_weights = false;
       }},
      {{"dense", "the mixture of all experts, weighted with softmax scores", 0.0, {}},
       [](DecoderOptions& options) { options.experts_per_token = options.num_experts; }},
  }};
  return all;
}

const Entry& find_entry(std::string_view name) {
  for (const Entry& entry : entries()) {
    if (entry.preset.name == name) {
      return entry;
    }
  }
  fail("router: '", name, "' is not one of ", router_preset_names());
}

/// The default router with what a preset says nothing of: sizes, groups and permissions.
RouterForm usual_router(const RouterForm& given) {
  RouterForm router;
  router.cosine_dim = given.cosine_dim;
  router.cosine_temperature = given.cosine_temperature;
  router.groups = given.groups;
  router.groups_kept = given.groups_kept;
  router.sparsemixer_jitter = given.sparsemixer_jitter;
  router.sees_future = given.sees_future;
  return router;
}

} // namespace

const std::vector<RouterPreset>& router_presets() {
  static const std::vector<RouterPreset> presets = [] {
    std::vector<RouterPreset> all;
    for (const Entry& entry : entries()) {
      all.push_back(entry.preset);
    }
    return all;
  }();
  return presets;
}

std::string router_preset_names() {
  std::string names;
  for (const RouterPreset& preset : router_presets()) {
    names.append(names.empty() ? "" : ", ").append(preset.name);
  }
  return names;
}

const RouterPreset& find_router_preset(std::string_view name) {
  return find_entry(name).preset;
}

DecoderOptions with_router_preset(const DecoderOptions& options, std::string_view name) {
  const Entry& entry = find_entry(name);
  DecoderOptions result = options;
  result.router = usual_router(options.router);
  entry.change(result);
  return result;
}

} // namespace moe
