#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace moe {

/// Passes streamed text on until one of some texts appears, and holds back what may be the
/// beginning of one.
class StopText {
 public:
  /// Empty texts are left out.
  explicit StopText(const std::vector<std::string>& stops);

  /// Text that is certain not to belong to a stop text. After `found()` it is always empty.
  std::string push(std::string_view text);

  /// What was held back, at the end of the stream.
  std::string finish();

  bool found() const {
    return found_;
  }

 private:
  std::vector<std::string> stops_;
  std::string held_;
  bool found_ = false;
};

} // namespace moe
