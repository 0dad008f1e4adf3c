#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace moe {

/// A folder that was found for a path, and what the user should know about the choice.
struct FoundFolder {
  std::filesystem::path folder;
  std::vector<std::string> warnings; ///< one line each
};

/// A training run on disk: `config.toml`, `metrics.jsonl`, `checkpoints/step-00000100/` and the
/// links `last` and `best`. One process at a time may write to it.
///
/// Example:
/// ```
/// RunFolder run("runs/demo");
/// run.create();
/// AtomicFolder folder(run.checkpoint(step));
/// ...                                          // write the files into folder.path()
/// folder.commit();
/// run.set_last(step);
/// run.prune(/*keep=*/2);
/// ```
class RunFolder {
 public:
  explicit RunFolder(std::filesystem::path root);

  const std::filesystem::path& root() const;
  std::filesystem::path config() const;  ///< ROOT/config.toml
  std::filesystem::path metrics() const; ///< ROOT/metrics.jsonl

  /// ROOT/checkpoints/step-00000100 for step 100.
  std::filesystem::path checkpoint(int64_t step) const;

  /// Whether there is anything of a run: a configuration or a checkpoint.
  bool exists() const;

  /// Creates the folders and removes what an interrupted save left behind.
  void create() const;

  /// Removes everything of the run that this library and the programs write, for --overwrite.
  /// Other files in the folder are kept.
  void clear() const;

  /// Steps with a checkpoint, complete or not, ascending.
  std::vector<int64_t> steps() const;

  /// The step that `last` or `best` names, if any.
  std::optional<int64_t> last() const;
  std::optional<int64_t> best() const;

  /// Lets `last` or `best` name the checkpoint of `step`, which must be there.
  void set_last(int64_t step) const;
  void set_best(int64_t step) const;

  /// Removes checkpoints but the `keep` newest and those that `last` and `best` name.
  void prune(int64_t keep) const;

  /// The checkpoint to resume from: what `last` names, or with a warning the newest other one
  /// whose files can be read. Throws `Error` saying what is wrong with each when there is none.
  FoundFolder find_resumable() const;

 private:
  std::filesystem::path root_;
};

/// Why the model in `folder` cannot be loaded (files missing, damaged or cut off), or nothing.
/// With `training_state`, its files are looked at, too. Reads headers, not the data.
std::optional<std::string> find_damage(
    const std::filesystem::path& folder, bool training_state = false);

/// The model folder that a user means: a run (then the checkpoint `choice`: "best", "last", a
/// step number, or "" for best if there is one and last otherwise), or a Hugging Face folder
/// itself. A damaged `last` is replaced by the newest complete checkpoint, with a warning.
/// Throws `Error` saying what was found instead.
FoundFolder find_model_folder(
    const std::filesystem::path& path, const std::string& choice = "");

} // namespace moe
