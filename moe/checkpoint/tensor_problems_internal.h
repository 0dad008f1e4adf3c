#pragma once

// Private to the library: not installed.

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace moe {

/// Why the tensors of a file do not fit what should be loaded, collected for one message.
struct TensorProblems {
  std::vector<std::string> missing;
  std::vector<std::string> unexpected;
  std::vector<std::string> misfits; ///< as `shape_misfit` and the like describe them

  bool none() const;

  /// "missing a, b; unexpected c; ..." naming at most `most` of each kind and counting the
  /// rest.
  std::string text(size_t most) const;
};

/// "name: shape [2, 3] in the file, [3, 2] needed".
std::string shape_misfit(
    const std::string& name,
    const std::vector<int64_t>& found,
    const std::vector<int64_t>& needed);

} // namespace moe
