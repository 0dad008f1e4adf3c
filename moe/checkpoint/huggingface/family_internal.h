#pragma once

// Private to the library: not installed, because it shows nlohmann-json.

#include <string>
#include <string_view>
#include <vector>

#include "moe/checkpoint/huggingface/config.h"
#include "moe/checkpoint/huggingface/config_reader_internal.h"
#include "moe/files/json_internal.h"

namespace moe {

/// One architecture of Hugging Face. A new one is a file that defines such a table row, and a
/// line in `families()`.
struct Family {
  std::string_view model_type;
  /// What keeps this architecture from expressing the options exactly, as "option (value)";
  /// empty when nothing does.
  std::vector<std::string> (*obstacles)(const DecoderOptions&);
  /// Adds all keys but `model_type` to config.json.
  void (*write)(const DecoderOptions&, const ConfigExtras&, OrderedJson&);
  /// Reads all keys but `model_type`. Keys that are left over are reported as ignored.
  void (*read)(ConfigReader&, DecoderOptions&, ConfigExtras&);
  /// How files store a tensor of ours; the first way is written, all are read.
  std::vector<TensorParts> (*stored)(const DecoderOptions&, const NamedShape& ours);
};

extern const Family kQwen3;
extern const Family kQwen3Moe;
extern const Family kMoeDecoder;

/// All families; the first that expresses the options is written.
const std::vector<const Family*>& families();

// What the Llama-like families share.

/// Obstacles that hold for every family without biases in experts, shared experts and the like.
std::vector<std::string> common_obstacles(const DecoderOptions& options);

/// Vocabulary, widths, heads, positions, norms, token ids and types.
void write_common(const DecoderOptions&, const ConfigExtras&, OrderedJson&);
void read_common(ConfigReader&, DecoderOptions&, ConfigExtras&);

/// `hidden_act` of an activation of ours and back.
std::string_view hidden_act(std::string_view activation);
std::string activation_of_hidden_act(ConfigReader&);

/// Theta from `rope_theta`, `rope_parameters` or `rope_scaling`; scaled positions are refused.
double read_rope_theta(ConfigReader&, double fallback);

/// Names like `model.layers.0.mlp.experts.3.gate_proj.weight`, and fused experts.
std::vector<TensorParts> qwen_tensors(const DecoderOptions&, const NamedShape& ours);

} // namespace moe
