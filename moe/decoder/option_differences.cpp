#include "moe/decoder/option_differences.h"

namespace moe {

std::vector<std::string> option_differences(
    const DecoderOptions& options, const DecoderOptions& other) {
  const DecoderOptions ours = canonical(options);
  const DecoderOptions theirs = canonical(other);
  std::vector<std::string> names;
  for (const auto& row : option_table<DecoderOptions>()) {
    const auto value = option_text(row.read(ours));
    if (value != option_text(row.read(theirs))) {
      names.push_back(row.key + " (" + value + ")");
    }
  }
  return names;
}

} // namespace moe
