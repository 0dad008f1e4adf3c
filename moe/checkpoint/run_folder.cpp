#include "moe/checkpoint/run_folder.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <set>
#include <system_error>
#include <utility>

#include "moe/checkpoint/model_files.h"
#include "moe/checkpoint/safetensors_file.h"
#include "moe/error.h"
#include "moe/files/atomic_file.h"
#include "moe/files/atomic_folder.h"
#include "moe/files/json_internal.h"

namespace moe {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kStepPrefix = "step-";

std::string step_name(int64_t step) {
  std::string name(32, '\0');
  name.resize(static_cast<size_t>(
      std::snprintf(name.data(), name.size(), "step-%08lld", static_cast<long long>(step))));
  return name;
}

std::optional<int64_t> step_of_name(std::string_view name) {
  if (!name.starts_with(kStepPrefix)) {
    return std::nullopt;
  }
  name.remove_prefix(kStepPrefix.size());
  int64_t step = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), step);
  const bool whole = error == std::errc() && end == name.data() + name.size() && step >= 0;
  return whole ? std::optional(step) : std::nullopt;
}

std::optional<int64_t> step_of_link(const fs::path& link) {
  std::error_code error;
  const auto target = fs::read_symlink(link, error);
  return error ? std::nullopt : step_of_name(target.filename().string());
}

void remove_tree(const fs::path& path) {
  std::error_code error;
  fs::remove_all(path, error);
  check(!error, path.string(), ": cannot remove: ", error.message());
}

// The newest checkpoint without damage, besides `tried`; the damage of each is added to
// `faults`.
std::optional<fs::path> newest_intact(
    const RunFolder& run,
    const std::set<int64_t>& tried,
    bool training_state,
    std::vector<std::string>& faults) {
  auto steps = run.steps();
  std::reverse(steps.begin(), steps.end());
  for (const int64_t step : steps) {
    if (tried.contains(step)) {
      continue;
    }
    const auto damage = find_damage(run.checkpoint(step), training_state);
    if (!damage) {
      return run.checkpoint(step);
    }
    faults.push_back(*damage);
  }
  return std::nullopt;
}

// The checkpoint of `first` if it is intact, otherwise another one and a warning.
FoundFolder intact_or_newest(
    const RunFolder& run, std::optional<int64_t> first, bool training_state) {
  std::vector<std::string> faults;
  if (first) {
    const auto damage = find_damage(run.checkpoint(*first), training_state);
    if (!damage) {
      return {run.checkpoint(*first), {}};
    }
    faults.push_back(*damage);
  }
  const auto tried = first ? std::set<int64_t>{*first} : std::set<int64_t>{};
  const auto found = newest_intact(run, tried, training_state, faults);
  if (!found) {
    std::string text;
    for (const std::string& fault : faults) {
      text += (text.empty() ? "" : "; ") + fault;
    }
    fail(
        run.root().string(),
        faults.empty() ? ": the run has no checkpoint yet"
                       : ": no checkpoint can be read: " + text);
  }
  FoundFolder result{*found, {}};
  for (const std::string& fault : faults) {
    result.warnings.push_back(
        "using " + found->string() + " instead of a damaged one: " + fault);
  }
  return result;
}

FoundFolder find_in_run(const RunFolder& run, const std::string& choice) {
  if (choice.empty()) {
    return intact_or_newest(run, run.best() ? run.best() : run.last(), false);
  }
  if (choice == "last") {
    return intact_or_newest(run, run.last(), false);
  }
  const auto step = choice == "best" ? run.best() : step_of_name("step-" + choice);
  check(
      step.has_value(),
      run.root().string(),
      choice == "best" ? ": the run has no best checkpoint"
                       : ": checkpoint '" + choice + "' is not best, last or a step number");
  const auto damage = find_damage(run.checkpoint(*step));
  check(!damage, damage.value_or(""));
  return {run.checkpoint(*step), {}};
}

} // namespace

RunFolder::RunFolder(fs::path root) : root_(std::move(root)) {}

const fs::path& RunFolder::root() const {
  return root_;
}

fs::path RunFolder::config() const {
  return root_ / "config.toml";
}

fs::path RunFolder::metrics() const {
  return root_ / "metrics.jsonl";
}

fs::path RunFolder::checkpoint(int64_t step) const {
  return root_ / "checkpoints" / step_name(step);
}

bool RunFolder::exists() const {
  std::error_code ignored;
  return fs::exists(config(), ignored) || fs::exists(root_ / "checkpoints", ignored);
}

void RunFolder::create() const {
  std::error_code error;
  fs::create_directories(root_ / "checkpoints", error);
  check(
      !error,
      (root_ / "checkpoints").string(),
      ": cannot create the folder: ",
      error.message());
  remove_temporaries(root_);
  remove_temporaries(root_ / "checkpoints");
}

void RunFolder::clear() const {
  for (const char* name : {"last", "best", "checkpoints", "config.toml", "metrics.jsonl"}) {
    remove_tree(root_ / name);
  }
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(root_, error)) {
    if (entry.path().filename().string().starts_with("events.out.tfevents.")) {
      remove_tree(entry.path());
    }
  }
}

std::vector<int64_t> RunFolder::steps() const {
  std::vector<int64_t> steps;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(root_ / "checkpoints", error)) {
    const auto step = step_of_name(entry.path().filename().string());
    // The name must be the one that checkpoint() gives, so that it leads back to this folder.
    if (step && entry.path().filename() == step_name(*step)) {
      steps.push_back(*step);
    }
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

std::optional<int64_t> RunFolder::last() const {
  return step_of_link(root_ / "last");
}

std::optional<int64_t> RunFolder::best() const {
  return step_of_link(root_ / "best");
}

void RunFolder::set_last(int64_t step) const {
  check(fs::is_directory(checkpoint(step)), checkpoint(step).string(), ": no such checkpoint");
  replace_link(root_ / "last", fs::path("checkpoints") / step_name(step));
}

void RunFolder::set_best(int64_t step) const {
  check(fs::is_directory(checkpoint(step)), checkpoint(step).string(), ": no such checkpoint");
  replace_link(root_ / "best", fs::path("checkpoints") / step_name(step));
}

void RunFolder::prune(int64_t keep) const {
  const auto all = steps();
  const auto old = static_cast<int64_t>(all.size()) - std::max<int64_t>(keep, 0);
  for (int64_t i = 0; i < old; ++i) {
    const int64_t step = all[static_cast<size_t>(i)];
    if (step == last() || step == best()) {
      continue;
    }
    // Renamed first: what is half removed must not look like a checkpoint.
    const auto doomed = temporary_path(checkpoint(step));
    std::error_code error;
    fs::rename(checkpoint(step), doomed, error);
    check(!error, checkpoint(step).string(), ": cannot remove: ", error.message());
    remove_tree(doomed);
  }
}

FoundFolder RunFolder::find_resumable() const {
  return intact_or_newest(*this, last(), /*training_state=*/true);
}

std::optional<std::string> find_damage(const fs::path& folder, bool training_state) {
  try {
    const ModelFiles model(folder);
    if (training_state) {
      read_json_object(folder / "training_state.json");
      const SafetensorsFile tensors(folder / "training_state.safetensors");
    }
  } catch (const Error& error) {
    return error.what();
  }
  return std::nullopt;
}

FoundFolder find_model_folder(const fs::path& path, const std::string& choice) {
  std::error_code ignored;
  check(
      fs::exists(path, ignored),
      path.string(),
      ": no such folder; give a run of moe-train or a Hugging Face model folder");
  check(
      fs::is_directory(path, ignored),
      path.string(),
      ": is a file; give the folder of a run or of a Hugging Face model");
  if (fs::exists(path / "config.json", ignored)) {
    check(
        choice.empty(),
        path.string(),
        ": is a model folder, not a run; it has no checkpoint '",
        choice,
        "'");
    return {path, {}};
  }
  const RunFolder run(path);
  check(
      run.exists(),
      path.string(),
      ": holds neither config.json (a model) nor checkpoints (a run of moe-train)");
  return find_in_run(run, choice);
}

} // namespace moe
