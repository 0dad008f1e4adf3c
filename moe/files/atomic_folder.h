#pragma once

#include <filesystem>

namespace moe {

/// A folder that appears under its name complete and on the disk, or not at all.
///
/// Its files are written into `path()`, a temporary folder beside the final place; `commit`
/// syncs them all and renames the folder. Without `commit` the temporary folder is removed.
/// What a killed process leaves behind is removed by `remove_temporaries`.
///
/// Example:
/// ```
/// AtomicFolder folder("runs/demo/checkpoints/step-00000100");
/// write_file_atomically(folder.path() / "config.json", text);
/// folder.commit();
/// ```
class AtomicFolder {
 public:
  /// Creates the temporary folder, and the parent where it is missing.
  explicit AtomicFolder(std::filesystem::path final_path);
  ~AtomicFolder();
  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;

  /// Where to write until `commit`.
  const std::filesystem::path& path() const;

  /// Puts the folder into place. A folder that is already there is replaced and removed after
  /// the new one has taken its name.
  void commit();

 private:
  std::filesystem::path final_path_;
  std::filesystem::path temporary_;
  bool committed_ = false;
};

/// Throws `Error` unless nothing has this name yet, or an empty folder.
void check_is_new(const std::filesystem::path& folder);

/// Removes what interrupted writes left in `folder`: its entries with temporary names. Call it
/// only where no other process is writing.
void remove_temporaries(const std::filesystem::path& folder);

} // namespace moe
