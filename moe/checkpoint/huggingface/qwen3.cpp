#include <algorithm>

#include "moe/checkpoint/huggingface/family_internal.h"

namespace moe {
namespace {

constexpr int64_t kDefaultHeadDim = 128;
constexpr int64_t kDefaultMaxWindowLayers = 28;

std::vector<std::string> qwen3_obstacles(const DecoderOptions& options) {
  auto found = common_obstacles(options);
  if (options.num_experts > 0) {
    found.push_back("num_experts (" + std::to_string(options.num_experts) + ")");
  }
  if (!options.qk_norm) {
    found.emplace_back("qk_norm (false)");
  }
  return found;
}

void qwen3_write(
    const DecoderOptions& options, const ConfigExtras& extras, OrderedJson& config) {
  config["architectures"] = {"Qwen3ForCausalLM"};
  write_common(options, extras, config);
  config["intermediate_size"] = options.dense_dim;
  config["use_sliding_window"] = options.sliding_window > 0;
  if (options.sliding_window > 0) {
    config["sliding_window"] = options.sliding_window;
    config["max_window_layers"] = 0; // layers from this one on have the window
  }
}

// Layers that see only the window: all of them, or none.
int64_t read_window(ConfigReader& reader, int64_t num_layers) {
  const bool used = reader.flag("use_sliding_window", false);
  const int64_t window = used ? reader.size("sliding_window", 4096) : 0;
  reader.ignore({"sliding_window"});
  const int64_t first =
      reader.integer("max_window_layers", /*least=*/0, kDefaultMaxWindowLayers);
  const auto types = reader.texts("layer_types");
  if (types) {
    const auto sliding = std::count(types->begin(), types->end(), "sliding_attention");
    const auto full = std::count(types->begin(), types->end(), "full_attention");
    const bool uniform = sliding == num_layers || full == num_layers;
    if (!uniform || static_cast<int64_t>(types->size()) != num_layers ||
        (sliding > 0 && !used)) {
      reader.fail_value(
          "layer_types", "the same type for every layer, full_attention or sliding_attention");
    }
    return sliding > 0 ? window : 0;
  }
  if (!used || first >= num_layers) {
    return 0;
  }
  if (first > 0) {
    reader.fail_value("max_window_layers", "0: a window in some layers only is not supported");
  }
  return window;
}

void qwen3_read(ConfigReader& reader, DecoderOptions& options, ConfigExtras& extras) {
  read_common(reader, options, extras);
  options.num_experts = 0;
  options.head_dim = reader.size("head_dim", kDefaultHeadDim);
  options.dense_dim = reader.size("intermediate_size");
  options.sliding_window = read_window(reader, options.num_layers);
  options.qk_norm = true;
}

} // namespace

const Family kQwen3{"qwen3", qwen3_obstacles, qwen3_write, qwen3_read, qwen_tensors};

} // namespace moe
