#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "moe/generation/traced_token.h"

namespace moe {

/// What colours a terminal shows.
enum class ColourDepth { none, palette, full };

/// The depth that a terminal has, by its variables COLORTERM and TERM; none where `use_colours`
/// is false.
ColourDepth colour_depth(int descriptor);

/// How a trace of experts is written.
struct TraceStyle {
  std::vector<int64_t> layers; ///< the numbers of the layers with experts
  int64_t num_experts = 0;
  int64_t experts_per_token = 0;
  ColourDepth colours = ColourDepth::none;
  int columns = 0; ///< of the terminal; 0 for no limit
};

/// The head of the table: the number of each layer.
std::string trace_header(const TraceStyle& style);

/// One token as a line: its text, made visible, and for each layer its experts, that of most
/// weight first, each on a colour of its own. Where a line does not fit the terminal only the
/// first expert of each layer is told, and if that does not fit either the line goes on in the
/// next one.
std::string trace_row(
    const std::string& text, const TracedToken& token, const TraceStyle& style);

/// One token as JSON: `id`, `text`, and `experts` and `weights` as one list per layer.
nlohmann::ordered_json trace_json(const std::string& text, const TracedToken& token);

} // namespace moe
