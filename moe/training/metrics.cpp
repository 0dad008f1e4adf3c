#include "moe/training/metrics.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "moe/error.h"

namespace moe {
namespace {

using Json = nlohmann::ordered_json;

// The step of a line that was written completely; -1 for anything else.
int64_t step_of(const std::string& line) {
  const auto object = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) {
    return -1;
  }
  const auto step = object.find("step");
  return step != object.end() && step->is_number_integer() ? step->get<int64_t>() : -1;
}

// Bytes at the beginning of the file that hold whole lines of steps up to `last_step`.
uintmax_t kept_bytes(const std::filesystem::path& path, int64_t last_step) {
  std::ifstream file(path, std::ios::binary);
  check(file.good(), path.string(), ": cannot read: ", std::strerror(errno));
  uintmax_t kept = 0;
  std::string line;
  // A last line without its end leaves the stream at its end.
  while (std::getline(file, line) && !file.eof()) {
    const int64_t step = step_of(line);
    if (step < 0 || step > last_step) {
      break;
    }
    kept += line.size() + 1;
  }
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

void set_if_known(Json& object, const char* key, const std::optional<double>& value) {
  if (value) {
    object[key] = *value;
  }
}

} // namespace

std::string metrics_line(const StepMetrics& metrics) {
  Json line;
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
  line["moe"] = Json::array();
  for (const LayerRouting& layer : metrics.moe) {
    line["moe"].push_back(Json{
        {"layer", layer.layer},
        {"max_violation", layer.max_violation},
        {"entropy", layer.entropy},
        {"dead", layer.dead}});
  }
  return line.dump() + "\n";
}

MetricsFile::MetricsFile(const std::filesystem::path& path, int64_t last_step)
    : file_(open_after(path, last_step)) {}

void MetricsFile::append(const StepMetrics& metrics) {
  file_.append(metrics_line(metrics));
}

} // namespace moe
