#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "apps/report/training_history.h"
#include "moe/data/tokenizer/tokenizer.h"
#include "moe/evaluation/routing_record.h"

namespace moe {

/// What the model is, in words and sizes.
struct ReportModel {
  std::string name;         ///< as the user gave it
  std::string checkpoint;   ///< of a run: step-00000300
  std::string architecture; ///< qwen3_moe
  std::string routing;      ///< softmax over 8 experts, ...
  int64_t layers = 0;
  int64_t parameters = 0;
  int64_t active_parameters = 0;
};

/// How the figures are made.
struct ReportSettings {
  int64_t piece_length = 256;
  int64_t shuffles = 200; ///< for the level of chance
  int64_t seed = 0;
  int64_t min_occurrences = 10; ///< of a token that an expert may be said to like
};

/// Everything that the report says, as `--json` writes it and the page draws it. Tokens and
/// texts are made visible (`visible_text`), numbers have four digits.
///
/// Bounded for any model: loads over time to 120,000 cells, favourite tokens to 30,000 (3 to 12
/// per expert), pairs of experts to the 48 busiest of a layer, text to 150,000 choices. That
/// makes at most a few megabytes.
nlohmann::ordered_json report_data(
    const ReportModel& model,
    const RoutingRecord& record,
    const Tokenizer& tokenizer,
    const std::optional<TrainingHistory>& history,
    const ReportSettings& settings);

} // namespace moe
