#include "moe/training/metrics.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <utility>

#include "moe/error.h"
#include "moe/files/json_internal.h"

namespace moe {
namespace {

// Calls `visit(step, bytes)` for whole lines in turn until it returns false.
template <class Visit>
void visit_lines(const std::filesystem::path& path, const Visit& visit) {
  std::ifstream file(path, std::ios::binary);
  check(file.good(), path.string(), ": cannot read: ", std::strerror(errno));
  std::string line;
  // A last line without its end leaves the stream at its end.
  while (std::getline(file, line) && !file.eof()) {
    const auto metrics = read_metrics_line(line);
    if (!metrics || !visit(*metrics, line.size() + 1)) {
      break;
    }
  }
}

// Bytes at the beginning of the file that hold whole lines of steps up to `last_step`.
uintmax_t kept_bytes(const std::filesystem::path& path, int64_t last_step) {
  uintmax_t kept = 0;
  visit_lines(path, [&](const StepMetrics& metrics, size_t bytes) {
    kept += metrics.step <= last_step ? bytes : 0;
    return metrics.step <= last_step;
  });
  return kept;
}

AppendFile open_after(const std::filesystem::path& path, int64_t last_step) {
  if (std::filesystem::exists(path)) {
    std::error_code error;
    std::filesystem::resize_file(path, kept_bytes(path, last_step), error);
    check(!error, path.string(), ": cannot write: ", error.message());
  }
  return AppendFile(path);
}

void set_if_known(OrderedJson& object, const char* key, const std::optional<double>& value) {
  if (value) {
    object[key] = *value;
  }
}

// So many digits that whole rows follow from a share of them.
double rounded_share(double share, int64_t rows) {
  const double digits = std::max(6.0, std::ceil(std::log10(std::max<double>(rows, 1.0))) + 1.0);
  const double scale = std::pow(10.0, digits);
  return std::round(share * scale) / scale;
}

OrderedJson layer_json(const LayerRouting& layer) {
  OrderedJson json;
  json["layer"] = layer.layer;
  json["rows"] = layer.rows;
  json["load"] = OrderedJson::array();
  for (const double share : layer.load) {
    json["load"].push_back(rounded_share(share, layer.rows));
  }
  json["max_violation"] = layer.max_violation;
  json["entropy"] = layer.entropy;
  json["dead"] = layer.dead;
  json["dropped"] = layer.dropped;
  json["confidence"] = layer.confidence;
  set_if_known(json, "churn", layer.churn);
  set_if_known(json, "similarity", layer.similarity);
  return json;
}

// The lists of collapses under their keys.
template <class Metrics>
auto collapse_lists(Metrics& metrics) {
  return std::array{
      std::pair{"collapse", &metrics.collapse}, std::pair{"recovered", &metrics.recovered}};
}

double number_or_nan(const nlohmann::json& object, const char* key) {
  const auto& value = object.at(key);
  return value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>();
}

std::optional<double> number_if_there(const nlohmann::json& object, const char* key) {
  return object.contains(key) ? std::optional(number_or_nan(object, key)) : std::nullopt;
}

int64_t whole_number(const nlohmann::json& value) {
  check(value.is_number_integer(), "expected a whole number, found ", value.type_name());
  return value.get<int64_t>();
}

std::vector<int64_t> whole_numbers(const nlohmann::json& list) {
  std::vector<int64_t> numbers;
  for (const auto& value : list) {
    numbers.push_back(whole_number(value));
  }
  return numbers;
}

LayerRouting routing_of(const nlohmann::json& object) {
  LayerRouting layer;
  layer.layer = whole_number(object.at("layer"));
  layer.max_violation = number_or_nan(object, "max_violation");
  layer.entropy = number_or_nan(object, "entropy");
  layer.dead = number_or_nan(object, "dead");
  // Runs of earlier versions have no more than this.
  layer.rows = object.contains("rows") ? whole_number(object.at("rows")) : 0;
  layer.load = object.value("load", std::vector<double>());
  layer.dropped = object.value("dropped", 0.0);
  layer.confidence = number_if_there(object, "confidence").value_or(1.0);
  layer.churn = number_if_there(object, "churn");
  layer.similarity = number_if_there(object, "similarity");
  return layer;
}

Collapse collapse_of(const nlohmann::json& object) {
  Collapse collapse;
  collapse.kind = collapse_kind(object.at("kind").get<std::string>());
  collapse.layer = whole_number(object.at("layer"));
  collapse.num_experts = whole_number(object.at("num_experts"));
  collapse.experts = whole_numbers(object.at("experts"));
  collapse.since_step = whole_number(object.at("since_step"));
  return collapse;
}

// Throws `Error` or an exception of the JSON library where something is not of its type.
StepMetrics metrics_of(const nlohmann::json& object) {
  StepMetrics metrics;
  metrics.step = whole_number(object.at("step"));
  metrics.loss = number_or_nan(object, "loss");
  metrics.val_loss = number_if_there(object, "val_loss");
  metrics.lr = number_or_nan(object, "lr");
  metrics.grad_norm = number_or_nan(object, "grad_norm");
  metrics.tokens_per_s = number_or_nan(object, "tokens_per_s");
  metrics.tokens = whole_number(object.at("tokens"));
  metrics.load_balancing_loss = number_if_there(object, "load_balancing_loss");
  metrics.router_z_loss = number_if_there(object, "router_z_loss");
  for (const auto& [key, value] : object.items()) {
    const bool is_named = key == "loss" || key == "val_loss" || key == "load_balancing_loss" ||
                          key == "router_z_loss";
    if (key.ends_with("loss") && !is_named) {
      metrics.routing_losses.emplace_back(key, number_or_nan(object, key.c_str()));
    }
  }
  metrics.val_loss_before_revival = number_if_there(object, "val_loss_before_revival");
  metrics.val_loss_after_revival = number_if_there(object, "val_loss_after_revival");
  for (const auto& layer : object.at("moe")) {
    metrics.moe.push_back(routing_of(layer));
  }
  for (const auto& [key, collapses] : collapse_lists(metrics)) {
    if (const auto found = object.find(key); found != object.end()) {
      for (const auto& collapse : *found) {
        collapses->push_back(collapse_of(collapse));
      }
    }
  }
  if (const auto found = object.find("revived"); found != object.end()) {
    for (const auto& revival : *found) {
      metrics.revived.push_back(
          {whole_number(revival.at("layer")),
           whole_numbers(revival.at("experts")),
           whole_numbers(revival.at("donors"))});
    }
  }
  return metrics;
}

} // namespace

std::string metrics_line(const StepMetrics& metrics) {
  OrderedJson line;
  line["step"] = metrics.step;
  line["loss"] = metrics.loss;
  set_if_known(line, "val_loss", metrics.val_loss);
  line["lr"] = metrics.lr;
  line["grad_norm"] = metrics.grad_norm;
  line["tokens_per_s"] = metrics.tokens_per_s;
  line["tokens"] = metrics.tokens;
  set_if_known(line, "load_balancing_loss", metrics.load_balancing_loss);
  set_if_known(line, "router_z_loss", metrics.router_z_loss);
  for (const auto& [name, value] : metrics.routing_losses) {
    line[name] = value;
  }
  line["moe"] = OrderedJson::array();
  for (const LayerRouting& layer : metrics.moe) {
    line["moe"].push_back(layer_json(layer));
  }
  for (const auto& [key, collapses] : collapse_lists(metrics)) {
    for (const Collapse& collapse : *collapses) {
      line[key].push_back(OrderedJson{
          {"kind", to_string(collapse.kind)},
          {"layer", collapse.layer},
          {"num_experts", collapse.num_experts},
          {"experts", collapse.experts},
          {"since_step", collapse.since_step}});
    }
  }
  for (const Revival& revival : metrics.revived) {
    line["revived"].push_back(OrderedJson{
        {"layer", revival.layer}, {"experts", revival.experts}, {"donors", revival.donors}});
  }
  set_if_known(line, "val_loss_before_revival", metrics.val_loss_before_revival);
  set_if_known(line, "val_loss_after_revival", metrics.val_loss_after_revival);
  return line.dump() + "\n";
}

std::optional<StepMetrics> read_metrics_line(const std::string& line) {
  const auto object = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object() || !object.contains("step")) {
    return std::nullopt;
  }
  try {
    return metrics_of(object);
  } catch (const nlohmann::json::exception&) {
    return std::nullopt;
  } catch (const Error&) {
    return std::nullopt;
  }
}

void read_metrics(
    const std::filesystem::path& path, const std::function<void(const StepMetrics&)>& visit) {
  visit_lines(path, [&](const StepMetrics& metrics, size_t) {
    visit(metrics);
    return true;
  });
}

MetricsFile::MetricsFile(const std::filesystem::path& path, int64_t last_step)
    : file_(open_after(path, last_step)) {}

void MetricsFile::append(const StepMetrics& metrics) {
  file_.append(metrics_line(metrics));
}

} // namespace moe
