#include "apps/expert_trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <string_view>

#include "apps/terminal.h"
#include "apps/visible_text.h"

namespace moe {
namespace {

constexpr int kTextColumns = 14;

struct Colour {
  int red;
  int green;
  int blue;
};

/// Okabe and Ito's colours for the first experts, which everybody can tell apart; then hues a
/// golden angle from each other.
Colour expert_colour(int64_t expert) {
  static constexpr std::array<Colour, 8> kFirst = {
      {{0, 114, 178},
       {230, 159, 0},
       {0, 158, 115},
       {204, 121, 167},
       {86, 180, 233},
       {213, 94, 0},
       {240, 228, 66},
       {153, 153, 153}}};
  if (expert < static_cast<int64_t>(kFirst.size())) {
    return kFirst[static_cast<size_t>(std::max<int64_t>(expert, 0))];
  }
  const double hue = std::fmod(static_cast<double>(expert) * 137.508, 360.0) / 60.0;
  const auto channel = [hue](double shift) {
    const double distance = std::abs(std::fmod(hue + shift, 6.0) - 3.0);
    return static_cast<int>(80.0 + 150.0 * std::clamp(distance - 1.0, 0.0, 1.0));
  };
  return {channel(0.0), channel(4.0), channel(2.0)};
}

std::string coloured(const std::string& text, int64_t expert, ColourDepth depth) {
  if (depth == ColourDepth::none) {
    return text;
  }
  const auto [red, green, blue] = expert_colour(expert);
  const bool is_light = red * 299 + green * 587 + blue * 114 > 130'000;
  const auto level = [](int value) { return (value * 5 + 127) / 255; };
  const auto background =
      depth == ColourDepth::full
          ? fmt::format("48;2;{};{};{}", red, green, blue)
          : fmt::format("48;5;{}", 16 + 36 * level(red) + 6 * level(green) + level(blue));
  return fmt::format("\033[{};{}m{}\033[0m", is_light ? "30" : "97", background, text);
}

/// Columns of an expert's number.
int digits(const TraceStyle& style) {
  int64_t largest = std::max<int64_t>(style.num_experts - 1, 0);
  for (const int64_t layer : style.layers) {
    largest = std::max(largest, layer);
  }
  return static_cast<int>(std::to_string(largest).size());
}

/// How many experts of each layer a line tells.
int64_t told_experts(const TraceStyle& style) {
  const auto columns = [&](int64_t experts) {
    const auto layers = static_cast<int64_t>(style.layers.size());
    return kTextColumns + layers * (2 + experts * (digits(style) + 1) - 1);
  };
  const bool fits = style.columns == 0 || columns(style.experts_per_token) <= style.columns;
  return fits ? style.experts_per_token : std::min<int64_t>(1, style.experts_per_token);
}

/// The cells behind the text, with line ends where the terminal's width ends.
std::string join_cells(
    const std::string& text, const std::vector<std::string>& cells, const TraceStyle& style) {
  const auto padding = std::max(kTextColumns - display_width(text), 0);
  std::string line = text + std::string(static_cast<size_t>(padding), ' ');
  int used = kTextColumns;
  for (const auto& cell : cells) {
    const int width = display_width(cell) + 2;
    if (style.columns > 0 && used + width > style.columns && used > kTextColumns) {
      line += "\n" + std::string(kTextColumns, ' ');
      used = kTextColumns;
    }
    line += "  " + cell;
    used += width;
  }
  return line + "\n";
}

} // namespace

ColourDepth colour_depth(int descriptor) {
  if (!use_colours(descriptor)) {
    return ColourDepth::none;
  }
  const char* const depth = std::getenv("COLORTERM");
  const std::string_view name = depth == nullptr ? "" : depth;
  return name == "truecolor" || name == "24bit" ? ColourDepth::full : ColourDepth::palette;
}

std::string trace_header(const TraceStyle& style) {
  const auto width = static_cast<int>(told_experts(style)) * (digits(style) + 1) - 1;
  std::vector<std::string> cells;
  for (const int64_t layer : style.layers) {
    cells.push_back(fmt::format("{:<{}}", layer, std::max(width, 1)));
  }
  return join_cells("layer", cells, style);
}

std::string trace_row(
    const std::string& text, const TracedToken& token, const TraceStyle& style) {
  const int64_t told = told_experts(style);
  std::vector<std::string> cells;
  for (const auto& layer : token.layers) {
    std::string cell;
    for (int64_t k = 0; k < told; ++k) {
      const bool is_there = k < static_cast<int64_t>(layer.experts.size());
      const int64_t expert = is_there ? layer.experts[static_cast<size_t>(k)] : 0;
      const auto number =
          fmt::format("{:>{}}", is_there ? std::to_string(expert) : "-", digits(style));
      cell +=
          (k > 0 ? " " : "") + (is_there ? coloured(number, expert, style.colours) : number);
    }
    cells.push_back(cell);
  }
  return join_cells(fit_columns(visible_text(text), kTextColumns), cells, style);
}

nlohmann::ordered_json trace_json(const std::string& text, const TracedToken& token) {
  nlohmann::ordered_json result = {{"id", token.id}, {"text", text}};
  result["experts"] = nlohmann::ordered_json::array();
  result["weights"] = nlohmann::ordered_json::array();
  for (const auto& layer : token.layers) {
    result["experts"].push_back(layer.experts);
    result["weights"].push_back(layer.weights);
  }
  return result;
}

} // namespace moe
