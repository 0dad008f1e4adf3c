#include "moe/editing/peft_config.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <optional>
#include <set>

#include "moe/error.h"
#include "moe/files/json_internal.h"
#include "moe/files/quote_internal.h"

namespace moe {
namespace {

/// Keys that say what was adapted and how it was trained; tensors and other keys say the rest.
/// How A and B began is the past, too, unless it took something from the model's weights, which
/// `init_lora_weights` says.
const std::set<std::string> kPeftKeysWithoutEffect = {
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    "eva_config",
    "exclude_modules",
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_dropout",
    "lora_ga_config",
    "megatron_core",
    "qalora_group_size",
    "revision",
    "target_modules",
    "task_type"};

/// Reads keys of one file once each, so that those that are left over are known.
class PeftConfigReader {
 public:
  PeftConfigReader(Json json, std::string file)
      : json_(std::move(json)), file_(std::move(file)) {}

  /// The value of a key, taken out; null if it is missing.
  Json take(const std::string& key) {
    const auto found = json_.find(key);
    if (found == json_.end()) {
      return nullptr;
    }
    Json value = std::move(*found);
    json_.erase(found);
    return value;
  }

  [[noreturn]] void refuse(
      const std::string& key, const Json& value, const std::string& right) const {
    fail(file_, ": ", key, " is ", quote(value.dump()), "; ", right);
  }

  bool flag(const std::string& key) {
    const Json value = take(key);
    if (!value.is_null() && !value.is_boolean()) {
      refuse(key, value, "true or false is expected");
    }
    return value.is_boolean() && value.get<bool>();
  }

  int64_t rank(const std::string& key, const Json& value) const {
    if (!value.is_number_integer() || value < 1 ||
        value > std::numeric_limits<int32_t>::max()) {
      refuse(key, value, "a rank is a whole number from 1");
    }
    return value.get<int64_t>();
  }

  double alpha(const std::string& key, const Json& value) const {
    if (!value.is_number() || !std::isfinite(value.get<double>())) {
      refuse(key, value, "a number is expected");
    }
    return value.get<double>();
  }

  std::vector<std::string> names(const std::string& key) {
    const Json value = take(key);
    std::vector<std::string> result;
    for (const Json& name : value) {
      if (!value.is_array() || !name.is_string()) {
        refuse(key, value, "a list of names is expected");
      }
      result.push_back(name.get<std::string>());
    }
    return result;
  }

  /// Calls add(name, value) for each entry.
  template <class Add>
  void pattern(const std::string& key, const Add& add) {
    const Json value = take(key);
    if (!value.is_null() && !value.is_object()) {
      refuse(key, value, "an object of names and numbers is expected");
    }
    for (const auto& [name, number] : value.items()) {
      check(
          !name.empty() && std::all_of(name.begin(), name.end(), is_of_name),
          file_,
          ": ",
          key,
          ": ",
          quote(name),
          " is a regular expression; only names and ends of names are understood");
      add(name, number);
    }
  }

  /// Fails for a key that is left over and is not neutral.
  void finish() const {
    for (const auto& [key, value] : json_.items()) {
      const bool is_neutral = value.is_null() || value == false ||
                              ((value.is_object() || value.is_array()) && value.empty());
      if (!is_neutral && !kPeftKeysWithoutEffect.contains(key)) {
        refuse(quote(key), value, "what it changes cannot be merged");
      }
    }
  }

 private:
  static bool is_of_name(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           c == '_' || c == '.';
  }

  Json json_;
  std::string file_;
};

/// "0.19" and later; development versions are called "0.19.1.dev0".
bool has_stack_rows(const Json& version) {
  int major = 0;
  int minor = 0;
  return version.is_string() &&
         std::sscanf(version.get<std::string>().c_str(), "%4d.%4d", &major, &minor) == 2 &&
         (major > 0 || minor >= 19);
}

void check_beginning(const PeftConfigReader& reader, const Json& value) {
  const bool kept_weights = value.is_null() || value.is_boolean() || value == "gaussian" ||
                            value == "eva" || value == "orthogonal";
  if (!kept_weights) {
    reader.refuse(
        "init_lora_weights",
        value,
        "such a beginning changes the model's weights, too; save the adapter converted to "
        "LoRA");
  }
}

template <class Value>
Value matching(
    const std::vector<std::pair<std::string, Value>>& patterns,
    const std::string& name,
    Value otherwise,
    const std::string& what) {
  std::optional<Value> found;
  for (const auto& [pattern, value] : patterns) {
    if (peft_name_matches(name, pattern)) {
      check(!found || *found == value, what, ": several values for ", name);
      found = value;
    }
  }
  return found.value_or(otherwise);
}

} // namespace

PeftLoraConfig read_peft_lora_config(const std::filesystem::path& folder) {
  const auto path = folder / "adapter_config.json";
  PeftLoraConfig config;
  config.file = path.string();
  PeftConfigReader reader(read_json_object(path), config.file);
  if (const Json type = reader.take("peft_type"); type != "LORA") {
    reader.refuse("peft_type", type, "only \"LORA\" can be merged");
  }
  if (const Json bias = reader.take("bias"); !bias.is_null() && bias != "none") {
    reader.refuse("bias", bias, "only \"none\" can be merged");
  }
  check_beginning(reader, reader.take("init_lora_weights"));
  config.rank = reader.rank("r", reader.take("r"));
  config.alpha = reader.alpha("lora_alpha", reader.take("lora_alpha"));
  config.rank_stabilized = reader.flag("use_rslora");
  config.fan_in_fan_out = reader.flag("fan_in_fan_out");
  reader.pattern("rank_pattern", [&](const std::string& name, const Json& value) {
    config.rank_pattern.emplace_back(name, reader.rank("rank_pattern", value));
  });
  reader.pattern("alpha_pattern", [&](const std::string& name, const Json& value) {
    config.alpha_pattern.emplace_back(name, reader.alpha("alpha_pattern", value));
  });
  config.target_parameters = reader.names("target_parameters");
  config.stacks_have_rows = has_stack_rows(reader.take("peft_version"));
  reader.finish();
  return config;
}

bool peft_name_matches(const std::string& name, const std::string& pattern) {
  const size_t before = name.size() - pattern.size();
  return name.ends_with(pattern) && (before == 0 || name[before - 1] == '.');
}

int64_t peft_rank(const PeftLoraConfig& config, const std::string& name) {
  return matching(config.rank_pattern, name, config.rank, config.file + ": rank_pattern");
}

double peft_scale(const PeftLoraConfig& config, const std::string& name) {
  const double alpha =
      matching(config.alpha_pattern, name, config.alpha, config.file + ": alpha_pattern");
  const auto rank = static_cast<double>(peft_rank(config, name));
  return alpha / (config.rank_stabilized ? std::sqrt(rank) : rank);
}

} // namespace moe
