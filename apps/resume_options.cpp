#include "apps/resume_options.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>

#include "apps/exit_code.h"
#include "apps/toml_config.h"

namespace moe {

std::vector<std::string> resume_changeable_keys() {
  return {
      "steps",
      "threads",
      "device",
      "recompute",
      "log_every",
      "checkpoint_every",
      "keep_checkpoints",
      "on_collapse"};
}

void resume_options(
    CommandLine& line,
    const std::string& recorded_path,
    const std::vector<std::string>& changeable) {
  std::ifstream file(recorded_path, std::ios::binary);
  check(file.good(), recorded_path, ": cannot read: ", std::strerror(errno));
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  for (auto& [key, recorded] : read_toml(text, recorded_path, line.fields())) {
    OptionField& field = *line.find(key);
    if (field.source == OptionSource::default_value) {
      field.value.write(recorded);
      field.source = OptionSource::file;
      continue;
    }
    const bool changes =
        std::find(changeable.begin(), changeable.end(), key) != changeable.end();
    const OptionValue given = field.value.read();
    if (changes || given == recorded) {
      continue;
    }
    throw UsageError(
        line.given_as(key) + ": the run was started with " + to_toml(recorded) +
        ", and --resume cannot change it to " + to_toml(given));
  }
}

} // namespace moe
