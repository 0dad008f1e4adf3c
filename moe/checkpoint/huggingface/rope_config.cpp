#include <algorithm>
#include <cmath>

#include "moe/checkpoint/huggingface/family_internal.h"

namespace moe {
namespace {

void read_scaling_numbers(ConfigReader& rope, DecoderOptions& options) {
  const RotaryScaling scaling = options.rotary.scaling;
  if (scaling == RotaryScaling::llama3) {
    for (const char* key : {"low_freq_factor", "high_freq_factor"}) {
      if (!rope.has(key)) {
        rope.fail_value(key, "a number above 0");
      }
    }
    options.rotary.low_frequency_factor = rope.positive("low_freq_factor", 1.0);
    options.rotary.high_frequency_factor = rope.positive("high_freq_factor", 4.0);
  }
  if (scaling == RotaryScaling::yarn) {
    options.rotary.beta_fast = rope.has("beta_fast") ? rope.positive("beta_fast", 32.0) : 32.0;
    options.rotary.beta_slow = rope.has("beta_slow") ? rope.positive("beta_slow", 1.0) : 1.0;
    options.rotary.truncate = rope.flag("truncate", true);
    options.rotary.mscale = rope.has("mscale") ? rope.number("mscale", 0.0) : 0.0;
    options.rotary.mscale_all_dim =
        rope.has("mscale_all_dim") ? rope.number("mscale_all_dim", 0.0) : 0.0;
  }
  if (scaling == RotaryScaling::longrope) {
    options.rotary.short_factors = rope.numbers("short_factor");
    options.rotary.long_factors = rope.numbers("long_factor");
    options.rotary.short_multiplier = rope.number("short_mscale", 0.0);
    options.rotary.long_multiplier = rope.number("long_mscale", 0.0);
  }
  if (scaling == RotaryScaling::yarn || scaling == RotaryScaling::longrope) {
    options.rotary.attention_factor =
        rope.has("attention_factor") ? rope.positive("attention_factor", 1.0) : 0.0;
  }
}

// `original`: what the top level of the configuration says of the original length, or 0.
void read_scaling(ConfigReader& rope, DecoderOptions& options, int64_t original) {
  const std::string key = rope.has("rope_type") ? "rope_type" : "type";
  const std::string kind = rope.text(key, "default");
  rope.ignore({"type", "rope_type"});
  const auto name = kind == "default" ? "none" : kind == "su" ? "longrope" : kind;
  const auto known = enum_choices<RotaryScaling>();
  if (std::find(known.begin(), known.end(), name) == known.end()) {
    rope.fail_value(key, "default, linear, dynamic, llama3, yarn or longrope");
  }
  options.rotary.scaling = enum_from_name<RotaryScaling>(key, name);
  if (options.rotary.scaling == RotaryScaling::none) {
    return;
  }
  const bool from_original = options.rotary.scaling == RotaryScaling::llama3 ||
                             options.rotary.scaling == RotaryScaling::yarn ||
                             options.rotary.scaling == RotaryScaling::longrope;
  if (from_original) {
    options.rotary.original_length =
        original > 0
            ? original
            : rope.integer("original_max_position_embeddings", 1, options.context_length);
    rope.ignore({"original_max_position_embeddings"});
  }
  if (rope.has("alpha")) { // a fixed stretch of the base, whatever the factor says
    const auto head = static_cast<double>(resolved_head_dim(options));
    options.rotary.theta *= std::pow(rope.positive("alpha", 1.0), head / (head - 2.0));
    options.rotary.scaling = RotaryScaling::none;
    rope.ignore({"factor"});
    return;
  }
  const double longer =
      static_cast<double>(options.context_length) /
      static_cast<double>(std::max<int64_t>(1, options.rotary.original_length));
  const bool derived = options.rotary.scaling == RotaryScaling::yarn ||
                       options.rotary.scaling == RotaryScaling::longrope;
  if (!rope.has("factor") && !derived) {
    rope.fail_value("factor", "a number above 0");
  }
  options.rotary.factor = rope.has("factor") ? rope.positive("factor", 1.0) : longer;
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
  const RotaryScaling scaling = options.rotary.scaling;
  rope["rope_type"] = scaling == RotaryScaling::none ? "default" : enum_name(scaling);
  rope["rope_theta"] = options.rotary.theta;
  if (!has_latent_attention(options) &&
      resolved_rotary_dim(options, 0) != resolved_head_dim(options)) {
    rope["partial_rotary_factor"] =
        rotary_factor(resolved_rotary_dim(options, 0), resolved_head_dim(options));
  }
  if (scaling == RotaryScaling::none) {
    return rope;
  }
  rope["factor"] = options.rotary.factor;
  if (scaling == RotaryScaling::llama3 || scaling == RotaryScaling::yarn ||
      scaling == RotaryScaling::longrope) {
    rope["original_max_position_embeddings"] = options.rotary.original_length == 0
                                                   ? options.context_length
                                                   : options.rotary.original_length;
  }
  const auto add_unless_zero = [&](const char* key, double value) {
    if (value != 0.0) {
      rope[key] = value;
    }
  };
  if (scaling == RotaryScaling::llama3) {
    rope["low_freq_factor"] = options.rotary.low_frequency_factor;
    rope["high_freq_factor"] = options.rotary.high_frequency_factor;
  }
  if (scaling == RotaryScaling::yarn) {
    rope["beta_fast"] = options.rotary.beta_fast;
    rope["beta_slow"] = options.rotary.beta_slow;
    rope["truncate"] = options.rotary.truncate;
    add_unless_zero("mscale", options.rotary.mscale);
    add_unless_zero("mscale_all_dim", options.rotary.mscale_all_dim);
  }
  if (scaling == RotaryScaling::longrope) {
    rope["short_factor"] = options.rotary.short_factors;
    rope["long_factor"] = options.rotary.long_factors;
    add_unless_zero("short_mscale", options.rotary.short_multiplier);
    add_unless_zero("long_mscale", options.rotary.long_multiplier);
  }
  if (scaling == RotaryScaling::yarn || scaling == RotaryScaling::longrope) {
    add_unless_zero("attention_factor", options.rotary.attention_factor);
  }
  return rope;
}

} // namespace

void read_rope(ConfigReader& reader, DecoderOptions& options, const CommonDefaults& defaults) {
  options.rotary.theta = reader.positive("rope_theta", defaults.rope_theta);
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
    const double inner = rope.positive("rope_theta", options.rotary.theta);
    if (given_twice && inner != options.rotary.theta) {
      reader.fail_value("rope_theta", "the same value as in " + key);
    }
    options.rotary.theta = inner;
    read_scaling(rope, options, original);
    factor = rope.has(partial) ? rope.positive(partial, factor) : factor;
    if (rope.has("llama_4_scaling_beta")) {
      options.attention.query_growth = rope.number("llama_4_scaling_beta", 0.0);
      options.attention.query_growth_length = options.rotary.original_length;
      rope.ignore({"max_position_embeddings"});
    }
    refuse_unread(rope);
  }
  if (!has_latent_attention(options)) {
    options.rotary.dim = rotary_dim(
        rope.has(partial) ? rope : reader, partial, factor, resolved_head_dim(options));
  }
}

void write_rope(const DecoderOptions& options, OrderedJson& config) {
  const OrderedJson rope = rope_parameters(options);
  // transformers 4 reads the first and rope_scaling, 5 rope_parameters.
  config["rope_theta"] = options.rotary.theta;
  config["rope_parameters"] = rope;
  if (options.rotary.scaling != RotaryScaling::none) {
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
    own.rotary.theta = rope.positive("rope_theta", 10000.0);
    read_scaling(rope, own, /*original=*/0);
    const double factor = rope.positive("partial_rotary_factor", 1.0);
    own.rotary.dim =
        rotary_dim(rope, "partial_rotary_factor", factor, resolved_head_dim(options));
    refuse_unread(rope);
    return own;
  };
  const DecoderOptions sliding = read("sliding_attention", sliding_default);
  const auto full_layers = options.full_attention_layers;
  options = read("full_attention", full_default);
  const bool unscaled = sliding.rotary.scaling == RotaryScaling::none &&
                        options.rotary.scaling != RotaryScaling::none;
  if (!unscaled && sliding.rotary.scaling != options.rotary.scaling) {
    reader.fail_value(
        "rope_parameters", "scaling in layers of full attention only, or the same in all");
  }
  for (int64_t layer = 0; layer < options.num_layers; ++layer) {
    const bool full = names_layer(full_layers, layer);
    options.layer_rope_theta.push_back(full ? options.rotary.theta : sliding.rotary.theta);
    options.layer_rotary_dim.push_back(full ? options.rotary.dim : sliding.rotary.dim);
    if (unscaled && !full) {
      options.rope_unscaled_layers.push_back(layer);
    }
  }
}

void write_rope_by_layer_type(const DecoderOptions& options, OrderedJson& config) {
  DecoderOptions full = options;
  full.layer_rope_theta.clear();
  full.layer_rotary_dim.clear();
  full.rotary.theta = options.rotary.theta;
  DecoderOptions sliding = full;
  for (int64_t layer = 0; layer < options.num_layers; ++layer) {
    if (!names_layer(options.full_attention_layers, layer)) {
      const auto i = static_cast<size_t>(layer);
      sliding.rotary.theta =
          options.layer_rope_theta.empty() ? options.rotary.theta : options.layer_rope_theta[i];
      sliding.rotary.dim = resolved_rotary_dim(options, layer);
      if (names_layer(options.rope_unscaled_layers, layer)) {
        sliding.rotary.scaling = RotaryScaling::none;
      }
    }
  }
  config["rope_parameters"] = {
      {"full_attention", rope_parameters(full)},
      {"sliding_attention", rope_parameters(sliding)}};
}

} // namespace moe
