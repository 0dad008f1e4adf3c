#include "apps/report/training_history.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <functional>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "moe/error.h"
#include "moe/evaluation/collapse_monitor.h"

namespace moe {
namespace {

using Json = nlohmann::ordered_json;

// More than any run has: a file that is no run's cannot fill the page.
constexpr size_t kMostCurves = 32;
constexpr size_t kMostLayers = 1024;
constexpr size_t kMostExperts = 4096;
constexpr size_t kMostEvents = 12;

/// Means of what falls into each bucket.
struct Averages {
  std::vector<double> sums;
  std::vector<int64_t> counts;

  void add(size_t bucket, double value) {
    if (bucket >= sums.size()) {
      sums.resize(bucket + 1);
      counts.resize(bucket + 1);
    }
    sums[bucket] += value;
    ++counts[bucket];
  }

  std::vector<double> means(size_t size) const {
    std::vector<double> result(size, std::numeric_limits<double>::quiet_NaN());
    for (size_t i = 0; i < sums.size(); ++i) {
      if (counts[i] > 0) {
        result[i] = sums[i] / static_cast<double>(counts[i]);
      }
    }
    return result;
  }
};

/// Curves in the order in which they were first seen.
struct CurveSet {
  std::vector<std::string> keys;
  std::map<std::string, Averages> averages;

  void add(const std::string& key, size_t bucket, double value) {
    if (!averages.contains(key)) {
      if (keys.size() == kMostCurves) {
        return;
      }
      keys.push_back(key);
    }
    averages[key].add(bucket, value);
  }

  std::vector<HistoryCurve> curves(size_t size) const {
    std::vector<HistoryCurve> result;
    for (const auto& key : keys) {
      result.push_back({key, averages.at(key).means(size)});
    }
    return result;
  }
};

struct LayerSums {
  CurveSet curves;
  std::vector<std::vector<double>> load; ///< [load buckets, E]
};

/// Calls `visit(number, line)` for the lines of a file.
int64_t for_each_line(
    const std::filesystem::path& path,
    const std::function<void(int64_t, const std::string&)>& visit) {
  std::ifstream file(path, std::ios::binary);
  check(file.good(), path.string(), ": cannot read: ", std::strerror(errno));
  int64_t lines = 0;
  std::string line;
  // A last line without its end is still being written.
  while (std::getline(file, line) && !file.eof()) {
    visit(lines++, line);
  }
  return lines;
}

void add_numbers(const Json& object, size_t bucket, CurveSet& curves) {
  for (const auto& [key, value] : object.items()) {
    if (value.is_number() && key != "step" && key != "layer") {
      curves.add(key, bucket, value.get<double>());
    }
  }
}

/// The number of experts whose load a line tells, over all layers.
int64_t loads_in(const Json& object) {
  int64_t count = 0;
  if (const auto layers = object.find("moe"); layers != object.end() && layers->is_array()) {
    for (const auto& layer : *layers) {
      const bool has_load = layer.is_object() && layer.contains("load");
      count += has_load ? static_cast<int64_t>(layer["load"].size()) : 0;
    }
  }
  return count;
}

/// A collapse as `metrics_line` writes it; nothing for anything else.
std::optional<Collapse> read_collapse(const Json& entry) {
  try {
    Collapse collapse;
    collapse.kind = collapse_kind(entry.at("kind").get<std::string>());
    collapse.layer = entry.at("layer").get<int64_t>();
    collapse.num_experts = entry.at("num_experts").get<int64_t>();
    collapse.experts = entry.at("experts").get<std::vector<int64_t>>();
    collapse.since_step = entry.at("since_step").get<int64_t>();
    return collapse;
  } catch (const Error&) {
    return std::nullopt;
  } catch (const Json::exception&) {
    return std::nullopt;
  }
}

/// Puts the lines of a file into buckets.
class HistoryReader {
 public:
  HistoryReader(int64_t lines, const HistoryLimits& limits)
      : limits_(limits), lines_(lines), buckets_(std::min(lines, limits.steps)) {}

  /// Whether a line is one of those that are read.
  bool is_read(int64_t number, const std::string& line) const {
    const int64_t parsed = std::min(lines_, limits_.parsed);
    return place(number, parsed) != place(number - 1, parsed) || number == 0 ||
           line.find("\"val_loss\"") != std::string::npos ||
           line.find("\"collapse\"") != std::string::npos ||
           line.find("\"recovered\"") != std::string::npos;
  }

  void read(int64_t number, const std::string& line) {
    const auto object = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    const bool is_step =
        object.is_object() && object.contains("step") && object["step"].is_number_integer();
    if (!is_step) {
      ++history_.unreadable;
      return;
    }
    if (load_buckets_ == 0) {
      const int64_t loads = std::max<int64_t>(loads_in(object), 1);
      load_buckets_ = std::clamp<int64_t>(limits_.cells / loads, 8, buckets_ + 8);
      load_buckets_ = std::min(load_buckets_, buckets_);
    }
    const auto bucket = static_cast<size_t>(place(number, buckets_));
    const auto load_bucket = static_cast<size_t>(place(number, load_buckets_));
    const auto step = object["step"].get<int64_t>();
    set(steps_, bucket, step);
    set(load_steps_, load_bucket, step);
    add_numbers(object, bucket, curves_);
    add_layers(object, bucket, load_bucket);
    add_events(object, "collapse", step, /*began=*/true);
    add_events(object, "recovered", step, /*began=*/false);
  }

  TrainingHistory finish() {
    // Buckets of which nothing could be read have no step, and are left out.
    history_.lines = lines_;
    history_.steps = steps_;
    history_.load_steps = load_steps_;
    history_.curves = curves_.curves(steps_.size());
    for (auto& [number, sums] : layers_) {
      LayerHistory layer{number, sums.curves.curves(steps_.size()), {}};
      if (!sums.load.empty()) {
        sums.load.resize(load_steps_.size(), std::vector<double>(sums.load.front().size()));
        for (auto& shares : sums.load) {
          layer.load.push_back(relative(std::move(shares)));
        }
      }
      history_.layers.push_back(std::move(layer));
    }
    return std::move(history_);
  }

 private:
  int64_t place(int64_t number, int64_t buckets) const {
    return lines_ > 0 ? number * buckets / lines_ : 0;
  }

  static void set(std::vector<int64_t>& steps, size_t bucket, int64_t step) {
    steps.resize(std::max(steps.size(), bucket + 1), step);
    steps[bucket] = step;
  }

  void add_layers(const Json& object, size_t bucket, size_t load_bucket) {
    const auto list = object.find("moe");
    if (list == object.end() || !list->is_array()) {
      return;
    }
    for (const auto& entry : *list) {
      const bool is_layer =
          entry.is_object() && entry.contains("layer") && entry["layer"].is_number_integer();
      if (!is_layer ||
          (layers_.size() == kMostLayers && !layers_.contains(entry["layer"].get<int64_t>()))) {
        continue;
      }
      auto& layer = layers_[entry["layer"].get<int64_t>()];
      add_numbers(entry, bucket, layer.curves);
      if (entry.contains("load")) {
        add_load(entry["load"], load_bucket, layer.load);
      }
    }
  }

  void add_events(const Json& object, const char* key, int64_t step, bool began) {
    const auto list = object.find(key);
    if (list == object.end() || !list->is_array()) {
      return;
    }
    for (const auto& entry : *list) {
      const auto collapse = read_collapse(entry);
      if (collapse && history_.events.size() < kMostEvents) {
        history_.events.push_back(
            {step, began, began ? describe(*collapse) : describe_recovery(*collapse)});
      }
    }
  }

  static void add_load(
      const Json& load, size_t bucket, std::vector<std::vector<double>>& sums) {
    const bool are_numbers =
        load.is_array() && !load.empty() && load.size() <= kMostExperts &&
        std::all_of(load.begin(), load.end(), [](const Json& v) { return v.is_number(); });
    if (!are_numbers || (!sums.empty() && sums.front().size() != load.size())) {
      return;
    }
    sums.resize(std::max(sums.size(), bucket + 1), std::vector<double>(load.size()));
    for (size_t expert = 0; expert < load.size(); ++expert) {
      sums[bucket][expert] += load[expert].get<double>();
    }
  }

  static std::vector<double> relative(std::vector<double> shares) {
    double sum = 0.0;
    for (const double share : shares) {
      sum += share;
    }
    for (double& share : shares) {
      share = sum > 0.0 ? share / sum * static_cast<double>(shares.size())
                        : std::numeric_limits<double>::quiet_NaN();
    }
    return shares;
  }

  HistoryLimits limits_;
  int64_t lines_;
  int64_t buckets_;
  int64_t load_buckets_ = 0;
  std::vector<int64_t> steps_;
  std::vector<int64_t> load_steps_;
  CurveSet curves_;
  std::map<int64_t, LayerSums> layers_;
  TrainingHistory history_;
};

} // namespace

TrainingHistory read_training_history(
    const std::filesystem::path& path, const HistoryLimits& limits) {
  const int64_t lines = for_each_line(path, [](int64_t, const std::string&) {});
  HistoryReader reader(lines, limits);
  for_each_line(path, [&](int64_t number, const std::string& line) {
    if (number < lines && reader.is_read(number, line)) {
      reader.read(number, line);
    }
  });
  return reader.finish();
}

} // namespace moe
