#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "moe/decoder/decoder_options.h"

namespace moe {

/// A published way of routing by the name that people know.
struct RouterPreset {
  std::string_view name;
  /// What it is, in a line.
  std::string_view summary;
  /// Weights of the balance and z-losses that its authors trained with, where they are known.
  std::optional<double> load_balancing_weight;
  std::optional<double> router_z_weight;
};

/// All of them: switch, gshard, mixtral, olmoe, deepseek-v2, deepseek-v3, gpt-oss, llama4,
/// st-moe, expert-choice and dense.
const std::vector<RouterPreset>& router_presets();

/// Their names with commas between them, for messages.
std::string router_preset_names();

/// The one of this name. Throws `Error` naming the known ones.
const RouterPreset& find_router_preset(std::string_view name);

/// `options` with every option of routing as the preset has it. `experts_per_token` changes
/// where the preset is defined by it (1 for switch and llama4, 2 for gshard, mixtral and
/// st-moe, all for dense); sizes of groups stay as they are, as does `router_sees_future`,
/// without which `expert-choice` is refused by `validate`. Throws `Error` for an unknown name.
///
/// Example:
/// ```
/// DecoderLM model(with_router_preset(options, "deepseek-v3"));
/// SparseMoEBlock block(moe_block_options(with_router_preset(options, "switch"), /*layer=*/0));
/// ```
DecoderOptions with_router_preset(const DecoderOptions& options, std::string_view name);

} // namespace moe
