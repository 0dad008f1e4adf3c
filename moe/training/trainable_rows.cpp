#include "moe/training/trainable_rows.h"

#include <algorithm>
#include <charconv>
#include <iterator>
#include <optional>
#include <string_view>

#include "moe/error.h"

namespace moe {
namespace {

constexpr std::string_view kParts[] = {
    "embedding",
    "head",
    "attention",
    "norms",
    "router",
    "experts",
    "shared_expert",
    "feed_forward",
    "new-experts"};

std::string part_names() {
  std::string names;
  for (const auto part : kParts) {
    names.append(names.empty() ? "" : ", ").append(part);
  }
  return names;
}

bool contains_text(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

/// Whether a parameter is directly one of the MoE block's, not of a module in it.
bool is_expert_stack(std::string_view name) {
  constexpr std::string_view kBlock = ".moe.";
  const size_t block = name.find(kBlock);
  return block != std::string_view::npos &&
         name.find('.', block + kBlock.size()) == std::string_view::npos;
}

/// `PART` or `PART=ROW,ROW`.
struct PartRows {
  std::string part;
  std::vector<int64_t> rows; ///< none: all
};

PartRows parse_part(const std::string& text, const std::string& option) {
  PartRows result;
  const size_t equals = text.find('=');
  result.part = text.substr(0, equals);
  const bool is_known =
      std::find(std::begin(kParts), std::end(kParts), result.part) != std::end(kParts);
  check(is_known, option, ": ", text, " is not one of ", part_names());
  if (equals == std::string::npos) {
    return result;
  }
  check(
      result.part == "experts" || result.part == "router",
      option,
      ": ",
      text,
      " is not possible; only experts and router have numbered rows");
  std::string_view rest = std::string_view(text).substr(equals + 1);
  while (true) {
    int64_t row = 0;
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), row);
    check(
        error == std::errc() && row >= 0, option, ": ", text, " is not ", result.part, "=3,5");
    result.rows.push_back(row);
    rest.remove_prefix(static_cast<size_t>(end - rest.data()));
    if (rest.empty()) {
      return result;
    }
    check(rest[0] == ',', option, ": ", text, " is not ", result.part, "=3,5");
    rest.remove_prefix(1);
  }
}

/// The number in "layers.7.rest".
int64_t layer_in_name(std::string_view name) {
  int64_t layer = -1;
  name.remove_prefix(std::string_view("layers.").size());
  std::from_chars(name.data(), name.data() + name.size(), layer);
  return layer;
}

/// Whether a parameter belongs to a router as a whole: its rows are no experts'.
bool is_common_to_experts(std::string_view name) {
  return name.ends_with(".router.projection") || name.ends_with(".router.log_scale");
}

/// The rows of a parameter that `part` means; nothing for all.
std::optional<std::vector<int64_t>> rows_of(
    const PartRows& part, const std::string& parameter, const NewExperts& new_experts) {
  if (part.part == "new-experts") {
    const auto found = is_common_to_experts(parameter)
                           ? new_experts.end()
                           : new_experts.find(layer_in_name(parameter));
    return found == new_experts.end() ? std::vector<int64_t>() : found->second;
  }
  if (part.rows.empty()) {
    return std::nullopt;
  }
  return is_common_to_experts(parameter) ? std::vector<int64_t>() : part.rows;
}

using RowFlags = std::vector<std::vector<bool>>; // by parameter and row

/// Sets the flags of the rows that `texts` name.
void set_rows(
    const std::vector<ParameterRows>& parameters,
    const std::vector<std::string>& texts,
    const NewExperts& new_experts,
    const std::string& option,
    bool value,
    RowFlags& flags) {
  for (const auto& text : texts) {
    const auto part = parse_part(text, option);
    check(
        part.part != "new-experts" || !new_experts.empty(),
        option,
        ": new-experts is not possible; the model has no record of new experts, as moe-edit "
        "grow makes it");
    bool found = false;
    for (size_t i = 0; i < parameters.size(); ++i) {
      if (!is_of_part(parameters[i].name, part.part)) {
        continue;
      }
      found = true;
      const auto rows = rows_of(part, parameters[i].name, new_experts);
      if (!rows) {
        flags[i].assign(flags[i].size(), value);
        continue;
      }
      for (const int64_t row : *rows) {
        check(
            row < parameters[i].rows,
            option,
            ": ",
            text,
            " is not possible; there are ",
            parameters[i].rows,
            " experts");
        flags[i][static_cast<size_t>(row)] = value;
      }
    }
    check(found, option, ": the model has no ", part.part);
  }
}

std::vector<RowRange> ranges_of(const std::vector<bool>& flags) {
  std::vector<RowRange> ranges;
  for (size_t i = 0; i < flags.size(); ++i) {
    const auto row = static_cast<int64_t>(i);
    if (flags[i] && i > 0 && flags[i - 1]) {
      ranges.back().end = row + 1;
    } else if (flags[i]) {
      ranges.push_back({row, row + 1});
    }
  }
  return ranges;
}

} // namespace

bool is_of_part(std::string_view name, std::string_view part) {
  if (part == "embedding") {
    return name.starts_with("embedding.");
  }
  if (part == "head") {
    return name.starts_with("lm_head.") || name == "head_bias";
  }
  if (part == "norms") {
    return contains_text(name, "norm.");
  }
  if (part == "experts") {
    return is_expert_stack(name);
  }
  if (part == "router") {
    return contains_text(name, ".moe.router.");
  }
  if (part == "shared_expert") {
    return contains_text(name, ".moe.shared_expert");
  }
  if (part == "new-experts") {
    return is_expert_stack(name) || contains_text(name, ".moe.router.");
  }
  return contains_text(name, part == "attention" ? ".attention." : ".feed_forward.");
}

void check_parts(const std::vector<std::string>& parts, const std::string& option) {
  for (const auto& part : parts) {
    parse_part(part, option);
  }
}

TrainableRows trainable_rows(
    const std::vector<ParameterRows>& parameters,
    const std::vector<std::string>& freeze,
    const std::vector<std::string>& only,
    const NewExperts& new_experts) {
  TrainableRows result;
  if (freeze.empty() && only.empty()) {
    return result;
  }
  RowFlags flags;
  for (const auto& parameter : parameters) {
    flags.emplace_back(static_cast<size_t>(parameter.rows), only.empty());
  }
  set_rows(parameters, only, new_experts, "only", true, flags);
  set_rows(parameters, freeze, new_experts, "freeze", false, flags);
  bool anything = false;
  for (size_t i = 0; i < parameters.size(); ++i) {
    const auto ranges = ranges_of(flags[i]);
    anything = anything || !ranges.empty();
    if (ranges != std::vector<RowRange>{{0, parameters[i].rows}}) {
      result[parameters[i].name] = ranges;
    }
  }
  check(anything, "freeze: nothing remains to be trained");
  return result;
}

} // namespace moe
