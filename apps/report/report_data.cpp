#include "apps/report/report_data.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <set>

#include "apps/report/findings.h"
#include "apps/visible_text.h"
#include "moe/data/tokenizer/stream_decoder.h"
#include "moe/evaluation/co_activation.h"
#include "moe/evaluation/specialisation.h"
#include "moe/evaluation/token_preferences.h"

namespace moe {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kTokenEntries = 30'000;
constexpr int64_t kPairedExperts = 48;
constexpr int64_t kTextEntries = 150'000;
constexpr int64_t kTextTokens = 300; ///< per domain

/// Four significant digits; null for what is no number.
Json rounded(double value) {
  if (!std::isfinite(value)) {
    return nullptr;
  }
  char text[32];
  std::snprintf(text, sizeof text, "%.4g", value);
  return std::strtod(text, nullptr);
}

Json rounded(const std::vector<double>& values) {
  auto list = Json::array();
  for (const double value : values) {
    list.push_back(rounded(value));
  }
  return list;
}

Json model_json(const ReportModel& model) {
  return {
      {"name", visible_text(model.name, /*mark_spaces=*/false)},
      {"checkpoint", visible_text(model.checkpoint, /*mark_spaces=*/false)},
      {"architecture", model.architecture},
      {"routing", model.routing},
      {"layers", model.layers},
      {"parameters", model.parameters},
      {"active_parameters", model.active_parameters}};
}

Json sample_json(const RoutingRecord& record, const ReportSettings& settings) {
  Json sample = {
      {"tokens", record.num_tokens()},
      {"piece_length", settings.piece_length},
      {"seed", settings.seed},
      {"domains", Json::array()}};
  for (size_t domain = 0; domain < record.domains.size(); ++domain) {
    std::set<int64_t> documents;
    int64_t tokens = 0;
    int64_t pieces = 0;
    for (const auto& piece : record.pieces) {
      if (piece.domain == static_cast<int64_t>(domain)) {
        documents.insert(piece.document);
        tokens += piece.end - piece.begin;
        ++pieces;
      }
    }
    sample["domains"].push_back(
        {{"name", record.domains[domain]},
         {"tokens", tokens},
         {"documents", documents.size()},
         {"pieces", pieces}});
  }
  return sample;
}

/// Of each domain the share of its choices that went to each expert: [domains][E].
Json domain_shares(const RoutingRecord& record, const RecordedLayer& layer) {
  auto shares = Json::array();
  for (const auto& counts : choices_by_domain(record, layer)) {
    const auto total =
        static_cast<double>(std::accumulate(counts.begin(), counts.end(), int64_t{0}));
    std::vector<double> row;
    for (const int64_t count : counts) {
      row.push_back(static_cast<double>(count) / std::max(total, 1.0));
    }
    shares.push_back(rounded(row));
  }
  return shares;
}

/// For each expert a list of [token, lift, times chosen, occurrences].
Json liked_tokens(
    const RoutingRecord& record,
    const RecordedLayer& layer,
    const Tokenizer& tokenizer,
    int64_t min_occurrences) {
  const int64_t experts = layer.num_experts * static_cast<int64_t>(record.layers.size());
  const int64_t limit = std::clamp<int64_t>(kTokenEntries / experts, 3, 12);
  auto result = Json::array();
  for (const auto& liked : token_preferences(record, layer, min_occurrences, limit)) {
    auto list = Json::array();
    for (const auto& token : liked) {
      list.push_back(
          {visible_text(tokenizer.token_bytes(token.id)),
           rounded(token.lift),
           token.chosen,
           token.occurrences});
    }
    result.push_back(std::move(list));
  }
  return result;
}

/// The busiest experts in rising order, and for each pair of them log2 of observed to expected:
/// row i has those with the experts before it.
Json pairs_json(const RecordedLayer& layer, const std::vector<double>& load) {
  std::vector<int64_t> experts(load.size());
  std::iota(experts.begin(), experts.end(), int64_t{0});
  std::stable_sort(experts.begin(), experts.end(), [&](int64_t a, int64_t b) {
    return load[static_cast<size_t>(a)] > load[static_cast<size_t>(b)];
  });
  experts.resize(std::min(experts.size(), static_cast<size_t>(kPairedExperts)));
  std::sort(experts.begin(), experts.end());
  const auto together = co_activation(layer);
  auto rows = Json::array();
  for (size_t i = 0; i < experts.size(); ++i) {
    std::vector<double> row;
    for (size_t j = 0; j < i; ++j) {
      row.push_back(std::round(together.log_ratio(experts[i], experts[j]) * 100.0) / 100.0);
    }
    rows.push_back(rounded(row));
  }
  return {{"experts", experts}, {"log2_ratio", rows}};
}

Json layer_json(
    const RoutingRecord& record,
    const RecordedLayer& layer,
    const LayerRouting& routing,
    const Specialisation& domains,
    const Tokenizer& tokenizer,
    const ReportSettings& settings) {
  return {
      {"layer", layer.layer},
      {"experts", layer.num_experts},
      {"experts_per_token", layer.experts_per_token},
      {"load", rounded(routing.load)},
      {"entropy", rounded(routing.entropy)},
      {"max_violation", rounded(routing.max_violation)},
      {"dead", rounded(routing.dead)},
      {"specialisation",
       {{"bits", rounded(domains.bits)},
        {"share", rounded(domains.share)},
        {"chance_mean", rounded(domains.chance_mean)},
        {"chance_95", rounded(domains.chance_95)}}},
      {"domains", domain_shares(record, layer)},
      {"tokens", liked_tokens(record, layer, tokenizer, settings.min_occurrences)},
      {"pairs", pairs_json(layer, routing.load)}};
}

/// What each token adds to the text, "" where a character is not complete yet.
Json token_texts(std::span<const int32_t> ids, const Tokenizer& tokenizer) {
  StreamDecoder decoder(tokenizer, /*skip_special=*/false, /*continues=*/true);
  auto texts = Json::array();
  for (const int32_t id : ids) {
    texts.push_back(visible_text(decoder.push(id), /*mark_spaces=*/false));
  }
  const auto rest = visible_text(decoder.finish(), /*mark_spaces=*/false);
  texts.back() = texts.back().get<std::string>() + rest;
  return texts;
}

/// The beginning of a piece: its tokens, and what they chose in each layer as flat lists
/// [tokens · K], weights in percent.
Json text_json(
    const RoutingRecord& record,
    const TextPiece& piece,
    int64_t count,
    const Tokenizer& tokenizer) {
  const auto ids = std::span(record.ids)
                       .subspan(static_cast<size_t>(piece.begin), static_cast<size_t>(count));
  Json text = {
      {"domain", piece.domain},
      {"tokens", token_texts(ids, tokenizer)},
      {"layers", Json::array()}};
  for (const auto& layer : record.layers) {
    const int64_t begin = piece.begin * layer.experts_per_token;
    const int64_t end = begin + count * layer.experts_per_token;
    std::vector<int64_t> percent;
    for (int64_t i = begin; i < end; ++i) {
      percent.push_back(std::lround(layer.weights[static_cast<size_t>(i)] * 100.0F));
    }
    text["layers"].push_back(
        {{"experts",
          std::vector<int32_t>(layer.experts.begin() + begin, layer.experts.begin() + end)},
         {"weights", percent}});
  }
  return text;
}

/// Text of each domain to read along: the first of the chosen pieces, and more where they are
/// short.
Json texts_json(const RoutingRecord& record, const Tokenizer& tokenizer) {
  int64_t choices = 0;
  for (const auto& layer : record.layers) {
    choices += layer.experts_per_token;
  }
  const auto domains = static_cast<int64_t>(record.domains.size());
  const int64_t room = std::min(
      kTextTokens,
      std::max<int64_t>(kTextEntries / std::max<int64_t>(choices * domains, 1), 1));
  std::vector<int64_t> left(record.domains.size(), room);
  auto texts = Json::array();
  for (const auto& piece : record.pieces) {
    auto& rest = left[static_cast<size_t>(piece.domain)];
    const int64_t count = std::min(rest, piece.end - piece.begin);
    if (count > 0) {
      texts.push_back(text_json(record, piece, count, tokenizer));
      rest -= count;
    }
  }
  return texts;
}

Json curves_json(const std::vector<HistoryCurve>& curves) {
  auto result = Json::object();
  for (const auto& curve : curves) {
    result[visible_text(curve.key)] = rounded(curve.values);
  }
  return result;
}

Json history_json(const TrainingHistory& history) {
  Json result = {
      {"lines", history.lines},
      {"unreadable", history.unreadable},
      {"steps", history.steps},
      {"curves", curves_json(history.curves)},
      {"load_steps", history.load_steps},
      {"layers", Json::array()}};
  for (const auto& layer : history.layers) {
    Json item = {{"layer", layer.layer}, {"curves", curves_json(layer.curves)}};
    for (const auto& loads : layer.load) {
      auto row = Json::array();
      for (const double load : loads) {
        row.push_back(rounded(std::round(load * 100.0) / 100.0));
      }
      item["load"].push_back(std::move(row));
    }
    result["layers"].push_back(std::move(item));
  }
  return result;
}

} // namespace

nlohmann::ordered_json report_data(
    const ReportModel& model,
    const RoutingRecord& record,
    const Tokenizer& tokenizer,
    const std::optional<TrainingHistory>& history,
    const ReportSettings& settings) {
  const auto domains = specialisation(record, settings.shuffles, settings.seed);
  std::vector<LayerRouting> routing;
  for (const auto& layer : record.layers) {
    routing.push_back(layer_routing(layer.layer, choices_by_expert(layer)));
  }
  Json data;
  data["model"] = model_json(model);
  data["sample"] = sample_json(record, settings);
  data["findings"] = Json::array();
  for (const auto& finding : find_remarks(routing, domains, record.domains.size())) {
    data["findings"].push_back(
        {{"kind", finding_kind_name(finding.kind)}, {"text", finding.text}});
  }
  for (const auto& event : history ? history->events : std::vector<HistoryEvent>()) {
    data["findings"].push_back(
        {{"kind", event.began ? "warning" : "note"},
         {"text", "Training, step " + std::to_string(event.step) + ": " + event.text + "."}});
  }
  data["chance"] = {
      {"unit", domains.unit == ShuffleUnit::document ? "document" : "piece"},
      {"units", domains.units},
      {"shuffles", domains.shuffles}};
  data["min_occurrences"] = settings.min_occurrences;
  data["layers"] = Json::array();
  for (size_t i = 0; i < record.layers.size(); ++i) {
    data["layers"].push_back(layer_json(
        record, record.layers[i], routing[i], domains.layers[i], tokenizer, settings));
  }
  data["texts"] = texts_json(record, tokenizer);
  data["training"] = history ? history_json(*history) : Json();
  return data;
}

} // namespace moe
