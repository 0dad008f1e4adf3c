#include <cmath>

#include "moe/checkpoint/huggingface/family_internal.h"

namespace moe {
namespace {

void read_scaling_numbers(ConfigReader& rope, DecoderOptions& options) {
  const std::string& scaling = options.rope_scaling;
  if (scaling == "llama3") {
    for (const char* key : {"low_freq_factor", "high_freq_factor"}) {
      if (!rope.has(key)) {
        rope.fail_value(key, "a number above 0");
      }
    }
    options.rope_low_frequency_factor = rope.positive("low_freq_factor", 1.0);
    options.rope_high_frequency_factor = rope.positive("high_freq_factor", 4.0);
  }
  if (scaling == "yarn") {
    options.rope_beta_fast = rope.has("beta_fast") ? rope.positive("beta_fast", 32.0) : 32.0;
    options.rope_beta_slow = rope.has("beta_slow") ? rope.positive("beta_slow", 1.0) : 1.0;
    options.rope_truncate = rope.flag("truncate", true);
    options.rope_mscale = rope.has("mscale") ? rope.number("mscale", 0.0) : 0.0;
    options.rope_mscale_all_dim =
        rope.has("mscale_all_dim") ? rope.number("mscale_all_dim", 0.0) : 0.0;
  }
  if (scaling == "longrope") {
    options.rope_short_factors = rope.numbers("short_factor");
    options.rope_long_factors = rope.numbers("long_factor");
    options.rope_short_multiplier = rope.number("short_mscale", 0.0);
    options.rope_long_multiplier = rope.number("long_mscale", 0.0);
  }
  if (scaling == "yarn" || scaling == "longrope") {
    options.rope_attention_factor =
        rope.has("attention_factor") ? rope.positive("attention_factor", 1.0) : 0.0;
  }
}

// `original`: what the top level of the configuration says of the original length, or 0.
void read_scaling(ConfigReader& rope, DecoderOptions& options, int64_t original) {
  const std::string key = rope.has("rope_type") ? "rope_type" : "type";
  const std::string kind = rope.text(key, "default");
  rope.ignore({"type", "rope_type"});
  options.rope_scaling = kind == "default" ? "none" : kind == "su" ? "longrope" : kind;
  static const std::set<std::string> known{
      "none", "linear", "dynamic", "llama3", "yarn", "longrope"};
  if (!known.contains(options.rope_scaling)) {
    rope.fail_value(key, "default, linear, dynamic, llama3, yarn or longrope");
  }
  if (options.rope_scaling == "none") {
    return;
  }
  const bool from_original = options.rope_scaling == "llama3" ||
                             options.rope_scaling == "yarn" ||
                             options.rope_scaling == "longrope";
  if (from_original) {
    options.rope_original_length =
        original > 0
            ? original
            : rope.integer("original_max_position_embeddings", 1, options.context_length);
    rope.ignore({"original_max_position_embeddings"});
  }
  if (rope.has("alpha")) { // a fixed stretch of the base, whatever the factor says
    const auto head = static_cast<double>(resolved_head_dim(options));
    options.rope_theta *= std::pow(rope.positive("alpha", 1.0), head / (head - 2.0));
    options.rope_scaling = "none";
    rope.ignore({"factor"});
    return;
  }
  const double longer = static_cast<double>(options.context_length) /
                        static_cast<double>(std::max<int64_t>(1, options.rope_original_length));
  const bool derived = options.rope_scaling == "yarn" || options.rope_scaling == "longrope";
  if (!rope.has("factor") && !derived) {
    rope.fail_value("factor", "a number above 0");
  }
  options.rope_factor = rope.has("factor") ? rope.positive("factor", 1.0) : longer;
  read_scaling_numbers(rope, options);
}

int64_t rotary_dim(ConfigReader& reader, const std::string& key, double factor, int64_t head) {
  const auto dim = static_cast<int64_t>(static_cast<double>(head) * factor);
  if (!(factor > 0.0 && factor <= 1.0) || dim < 2 || dim % 2 != 0) {
    reader.fail_value(key, "a part of head_dim that is an even number of elements");
  }
  return dim == head ? 0 : dim;
}

// The part of a head that turns, as a factor that gives the same number when it is multiplied
// and cut off.
double rotary_factor(int64_t dim, int64_t head) {
  double factor = static_cast<double>(dim) / static_cast<double>(head);
  while (static_cast<int64_t>(static_cast<double>(head) * factor) < dim) {
    factor = std::nextafter(factor, 2.0);
  }
  return factor;
}

void refuse_unread(ConfigReader& rope) {
  for (const std::string& unknown : rope.unread()) {
    rope.fail_value(unknown, "no such key: it is not supported");
  }
}

OrderedJson rope_parameters(const DecoderOptions& options) {
  OrderedJson rope;
  const std::string& scaling = options.rope_scaling;
  rope["rope_type"] = scaling == "none" ? "default" : scaling;
  rope["rope_theta"] = options.rope_theta;
  if (!has_latent_attention(options) &&
      resolved_rotary_dim(options, 0) != resolved_head_dim(options)) {
    rope["partial_rotary_factor"] =
        rotary_factor(resolved_rotary_dim(options, 0), resolved_head_dim(options));
  }
  if (scaling == "none") {
    return rope;
  }
  rope["factor"] = options.rope_factor;
  if (scaling == "llama3" || scaling == "yarn" || scaling == "longrope") {
    rope["original_max_position_embeddings"] = options.rope_original_length == 0
                                                   ? options.context_length
                                                   : options.rope_original_length;
  }
  const auto add_unless_zero = [&](const char* key, double value) {
    if (value != 0.0) {
      rope[key] = value;
    }
  };
  if (scaling == "llama3") {
    rope["low_freq_factor"] = options.rope_low_frequency_factor;
    rope["high_freq_factor"] = options.rope_high_frequency_factor;
  }
  if (scaling == "yarn") {
    rope["beta_fast"] = options.rope_beta_fast;
    rope["beta_slow"] = options.rope_beta_slow;
    rope["truncate"] = options.rope_truncate;
    add_unless_zero("mscale", options.rope_mscale);
    add_unless_zero("mscale_all_dim", options.rope_mscale_all_dim);
  }
  if (scaling == "longrope") {
    rope["short_factor"] = options.rope_short_factors;
    rope["long_factor"] = options.rope_long_factors;
    add_unless_zero("short_mscale", options.rope_short_multiplier);
    add_unless_zero("long_mscale", options.rope_long_multiplier);
  }
  if (scaling == "yarn" || scaling == "longrope") {
    add_unless_zero("attention_factor", options.rope_attention_factor);
  }
  return rope;
}

} // namespace

void read_rope(ConfigReader& reader, DecoderOptions& options, const CommonDefaults& defaults) {
  options.rope_theta = reader.positive("rope_theta", defaults.rope_theta);
  // transformers prefers the older of the two keys.
  const std::string key = reader.has("rope_scaling") ? "rope_scaling" : "rope_parameters";
  const Json& parameters = reader.object(key);
  reader.ignore({"rope_scaling", "rope_parameters"});
  const int64_t original = reader.has("original_max_position_embeddings")
                               ? reader.size("original_max_position_embeddings")
                               : 0;
  ConfigReader rope(parameters, reader.file() + ": " + key);
  const std::string partial = "partial_rotary_factor";
  const bool whole = defaults.partial_rotary_factor == 0.0;
  double factor = whole ? 1.0 : defaults.partial_rotary_factor;
  if (whole && !has_latent_attention(options)) {
    reader.require_neutral(partial, 1.0);
    rope.require_neutral(partial, 1.0);
  } else if (reader.has(partial)) {
    factor = reader.positive(partial, factor);
  }
  if (!parameters.empty()) {
    const bool given_twice = reader.has("rope_theta") && rope.has("rope_theta");
    const double inner = rope.positive("rope_theta", options.rope_theta);
    if (given_twice && inner != options.rope_theta) {
      reader.fail_value("rope_theta", "the same value as in " + key);
    }
    options.rope_theta = inner;
    read_scaling(rope, options, original);
    factor = rope.has(partial) ? rope.positive(partial, factor) : factor;
    if (rope.has("llama_4_scaling_beta")) {
      options.query_growth = rope.number("llama_4_scaling_beta", 0.0);
      options.query_growth_length = options.rope_original_length;
      rope.ignore({"max_position_embeddings"});
    }
    refuse_unread(rope);
  }
  if (!has_latent_attention(options)) {
    options.rotary_dim = rotary_dim(
        rope.has(partial) ? rope : reader, partial, factor, resolved_head_dim(options));
  }
}

void write_rope(const DecoderOptions& options, OrderedJson& config) {
  const OrderedJson rope = rope_parameters(options);
  // transformers 4 reads the first and rope_scaling, 5 rope_parameters.
  config["rope_theta"] = options.rope_theta;
  config["rope_parameters"] = rope;
  if (options.rope_scaling != "none") {
    config["rope_scaling"] = rope;
  }
}

void read_rope_by_layer_type(
    ConfigReader& reader,
    DecoderOptions& options,
    const Json& full_default,
    const Json& sliding_default) {
  const Json& all = reader.object("rope_parameters");
  const Json& types = all.empty() ? Json::object() : all;
  const auto read = [&](const char* type, const Json& fallback) {
    const auto found = types.find(type);
    const Json given = found == types.end() ? fallback : *found;
    ConfigReader rope(given, reader.file() + ": rope_parameters: " + type);
    DecoderOptions own = options;
    own.rope_theta = rope.positive("rope_theta", 10000.0);
    read_scaling(rope, own, /*original=*/0);
    const double factor = rope.positive("partial_rotary_factor", 1.0);
    own.rotary_dim =
        rotary_dim(rope, "partial_rotary_factor", factor, resolved_head_dim(options));
    refuse_unread(rope);
    return own;
  };
  const DecoderOptions sliding = read("sliding_attention", sliding_default);
  const auto full_layers = options.full_attention_layers;
  options = read("full_attention", full_default);
  const bool unscaled = sliding.rope_scaling == "none" && options.rope_scaling != "none";
  if (!unscaled && sliding.rope_scaling != options.rope_scaling) {
    reader.fail_value(
        "rope_parameters", "scaling in layers of full attention only, or the same in all");
  }
  for (int64_t layer = 0; layer < options.num_layers; ++layer) {
    const bool full = names_layer(full_layers, layer);
    options.layer_rope_theta.push_back(full ? options.rope_theta : sliding.rope_theta);
    options.layer_rotary_dim.push_back(full ? options.rotary_dim : sliding.rotary_dim);
    if (unscaled && !full) {
      options.rope_unscaled_layers.push_back(layer);
    }
  }
}

void write_rope_by_layer_type(const DecoderOptions& options, OrderedJson& config) {
  DecoderOptions full = options;
  full.layer_rope_theta.clear();
  full.layer_rotary_dim.clear();
  full.rope_theta = options.rope_theta;
  DecoderOptions sliding = full;
  for (int64_t layer = 0; layer < options.num_layers; ++layer) {
    if (!names_layer(options.full_attention_layers, layer)) {
      const auto i = static_cast<size_t>(layer);
      sliding.rope_theta =
          options.layer_rope_theta.empty() ? options.rope_theta : options.layer_rope_theta[i];
      sliding.rotary_dim = resolved_rotary_dim(options, layer);
      if (names_layer(options.rope_unscaled_layers, layer)) {
        sliding.rope_scaling = "none";
      }
    }
  }
  config["rope_parameters"] = {
      {"full_attention", rope_parameters(full)},
      {"sliding_attention", rope_parameters(sliding)}};
}

} // namespace moe
