#include "moe/checkpoint/training_state.h"

#include <cmath>
#include <string_view>
#include <utility>

#include "moe/error.h"
#include "moe/files/atomic_file.h"
#include "moe/files/json_internal.h"
#include "moe/libtorch.h"

namespace moe {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kFormat = 1;
constexpr const char* kJsonFile = "training_state.json";
constexpr const char* kTensorFile = "training_state.safetensors";
constexpr std::string_view kOptimizerPrefix = "optimizer/";
constexpr std::string_view kRoutingPrefix = "routing/";
constexpr std::string_view kRngPrefix = "rng/";

// Calls `visit(key, field)` for every field that is a number or a text and must be there.
template <class State, class Visitor>
void visit_required(State& state, Visitor&& visit) {
  visit("step", state.step);
  visit("tokens", state.tokens);
  visit("seed", state.seed);
  visit("options", state.options);
  visit("data_fingerprint", state.data_fingerprint);
  visit("libtorch_version", state.libtorch_version);
  visit("dtype", state.dtype);
  visit("device", state.device);
  visit("cpu_capability", state.cpu_capability);
  visit("threads", state.threads);
}

class StateReader {
 public:
  StateReader(const Json& json, std::string file) : json_(json), file_(std::move(file)) {}

  void operator()(const char* key, int64_t& field) const {
    const Json& value = at(key);
    check(is_int64(value), file_, ": ", key, " must be a whole number");
    field = value.get<int64_t>();
  }

  void operator()(const char* key, std::string& field) const {
    const Json& value = at(key);
    check(value.is_string(), file_, ": ", key, " must be a text");
    field = value.get<std::string>();
  }

  void operator()(const char* key, std::optional<double>& field) const {
    const Json& value = at(key);
    check(value.is_null() || value.is_number(), file_, ": ", key, " must be a number or null");
    field = value.is_null() ? std::nullopt : std::optional(value.get<double>());
  }

  void operator()(const char* key, std::optional<int64_t>& field) const {
    field.reset();
    if (!at(key).is_null()) {
      (*this)(key, field.emplace());
    }
  }

  void operator()(const char* key, std::map<std::string, int64_t>& field) const {
    const Json& object = at(key);
    check(object.is_object(), file_, ": ", key, " must be an object");
    for (const auto& [name, value] : object.items()) {
      check(is_int64(value), file_, ": ", key, " must hold whole numbers");
      field.emplace(name, value.get<int64_t>());
    }
  }

 private:
  static bool is_int64(const Json& value) {
    return value.is_number_integer() &&
           (!value.is_number_unsigned() || value.get<uint64_t>() <= uint64_t{INT64_MAX});
  }

  const Json& at(const char* key) const {
    const auto found = json_.find(key);
    check(found != json_.end(), file_, ": ", key, " is missing");
    return *found;
  }

  const Json& json_;
  std::string file_;
};

template <class Value>
OrderedJson or_null(const std::optional<Value>& value) {
  return value ? OrderedJson(*value) : OrderedJson(nullptr);
}

std::string dump(const OrderedJson& json, const fs::path& path) {
  try {
    return json.dump(2) + "\n";
  } catch (const Json::exception&) {
    fail(path.string(), ": cannot write: a text in the training state is not UTF-8");
  }
}

} // namespace

void save_training_state(const fs::path& folder, const TrainingState& state) {
  const auto path = folder / kJsonFile;
  check(
      !state.best_validation_loss || std::isfinite(*state.best_validation_loss),
      path.string(),
      ": best_validation_loss is not finite");
  StateDict tensors;
  for (const auto& item : state.optimizer) {
    tensors.insert(std::string(kOptimizerPrefix) + item.key(), item.value());
  }
  for (const auto& item : state.routing) {
    tensors.insert(std::string(kRoutingPrefix) + item.key(), item.value());
  }
  for (const auto& item : state.rng) {
    tensors.insert(std::string(kRngPrefix) + item.key(), item.value());
  }
  write_state_dict(tensors, folder / kTensorFile);

  OrderedJson json;
  json["format"] = kFormat;
  visit_required(state, [&](const char* key, const auto& field) { json[key] = field; });
  json["best_validation_loss"] = or_null(state.best_validation_loss);
  json["best_step"] = or_null(state.best_step);
  json["counters"] = state.counters;
  write_file_atomically(path, dump(json, path));
}

TrainingState load_training_state(const fs::path& folder) {
  const auto path = folder / kJsonFile;
  const Json json = read_json_object(path);
  const StateReader read(json, path.string());
  int64_t format = 0;
  read("format", format);
  check(
      format == kFormat,
      path.string(),
      ": format ",
      format,
      " is not known to this version, which reads ",
      kFormat);
  TrainingState state;
  visit_required(state, read);
  read("best_validation_loss", state.best_validation_loss);
  read("best_step", state.best_step);
  read("counters", state.counters);
  check(
      state.step >= 0 && state.tokens >= 0,
      path.string(),
      ": step ",
      state.step,
      " and tokens ",
      state.tokens,
      " must be at least 0");

  const auto tensors = folder / kTensorFile;
  for (const auto& item : read_state_dict(tensors)) {
    const std::string& key = item.key();
    if (key.starts_with(kOptimizerPrefix)) {
      state.optimizer.insert(key.substr(kOptimizerPrefix.size()), item.value());
    } else if (key.starts_with(kRoutingPrefix)) {
      state.routing.insert(key.substr(kRoutingPrefix.size()), item.value());
    } else if (key.starts_with(kRngPrefix)) {
      state.rng.insert(key.substr(kRngPrefix.size()), item.value());
    } else {
      fail(
          tensors.string(),
          ": tensor '",
          key,
          "' is neither of the optimizer nor of the routing nor of a generator");
    }
  }
  return state;
}

} // namespace moe
