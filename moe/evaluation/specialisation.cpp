#include "moe/evaluation/specialisation.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <random>
#include <utility>

namespace moe {
namespace {

constexpr size_t kFewestDocuments = 4;

/// Texts whose domain is dealt out as a whole.
struct Units {
  ShuffleUnit kind = ShuffleUnit::document;
  std::vector<size_t> of_piece; ///< the unit of each piece
  std::vector<size_t> domain;   ///< the domain of each unit
};

Units make_units(const RoutingRecord& record) {
  std::map<std::pair<int64_t, int64_t>, size_t> documents;
  std::vector<size_t> per_domain(record.domains.size());
  Units units;
  for (const auto& piece : record.pieces) {
    const auto [place, is_new] =
        documents.try_emplace({piece.domain, piece.document}, documents.size());
    units.of_piece.push_back(place->second);
    if (is_new) {
      units.domain.push_back(static_cast<size_t>(piece.domain));
      ++per_domain[static_cast<size_t>(piece.domain)];
    }
  }
  if (*std::min_element(per_domain.begin(), per_domain.end()) >= kFewestDocuments) {
    return units;
  }
  units = {ShuffleUnit::piece, {}, {}};
  for (size_t i = 0; i < record.pieces.size(); ++i) {
    units.of_piece.push_back(i);
    units.domain.push_back(static_cast<size_t>(record.pieces[i].domain));
  }
  return units;
}

/// How often the tokens of each unit chose each expert: [units, E].
std::vector<std::vector<double>> unit_counts(
    const RoutingRecord& record, const RecordedLayer& layer, const Units& units) {
  std::vector<std::vector<double>> counts(
      units.domain.size(), std::vector<double>(static_cast<size_t>(layer.num_experts)));
  for (size_t i = 0; i < record.pieces.size(); ++i) {
    auto& row = counts[units.of_piece[i]];
    const auto& piece = record.pieces[i];
    const int64_t end = piece.end * layer.experts_per_token;
    for (int64_t j = piece.begin * layer.experts_per_token; j < end; ++j) {
      const int32_t expert = layer.experts[static_cast<size_t>(j)];
      if (expert >= 0) {
        row[static_cast<size_t>(expert)] += 1.0;
      }
    }
  }
  return counts;
}

/// The information where unit i belongs to domain `labels[i]`, each domain counting equally.
double information(
    const std::vector<std::vector<double>>& counts,
    const std::vector<size_t>& labels,
    size_t num_domains) {
  std::vector<std::vector<double>> table(
      num_domains, std::vector<double>(counts.front().size()));
  for (size_t unit = 0; unit < counts.size(); ++unit) {
    auto& row = table[labels[unit]];
    for (size_t expert = 0; expert < row.size(); ++expert) {
      row[expert] += counts[unit][expert];
    }
  }
  for (auto& row : table) {
    const double sum = std::accumulate(row.begin(), row.end(), 0.0);
    for (double& value : row) {
      value /= std::max(sum, 1.0);
    }
  }
  return mutual_information(table);
}

/// Fisher and Yates, with a generator and a division that are the same everywhere.
std::vector<size_t> shuffled(std::vector<size_t> labels, std::mt19937_64& random) {
  for (size_t i = labels.size(); i > 1; --i) {
    std::swap(labels[i - 1], labels[random() % i]);
  }
  return labels;
}

Specialisation measure(
    const std::vector<std::vector<double>>& counts,
    const std::vector<std::vector<size_t>>& shuffles,
    const Units& units,
    size_t num_domains) {
  Specialisation result;
  result.bits = information(counts, units.domain, num_domains);
  const auto smaller = static_cast<double>(std::min(num_domains, counts.front().size()));
  result.share = smaller > 1.0 ? result.bits / std::log2(smaller) : 0.0;
  std::vector<double> chance;
  for (const auto& labels : shuffles) {
    chance.push_back(information(counts, labels, num_domains));
  }
  if (!chance.empty()) {
    std::sort(chance.begin(), chance.end());
    result.chance_mean =
        std::accumulate(chance.begin(), chance.end(), 0.0) / static_cast<double>(chance.size());
    result.chance_95 = chance[(chance.size() * 95 + 99) / 100 - 1];
  }
  return result;
}

} // namespace

double mutual_information(const std::vector<std::vector<double>>& table) {
  std::vector<double> columns(table.empty() ? 0 : table.front().size());
  double total = 0.0;
  for (const auto& row : table) {
    for (size_t column = 0; column < row.size(); ++column) {
      columns[column] += row[column];
      total += row[column];
    }
  }
  double bits = 0.0;
  for (const auto& row : table) {
    const double sum = std::accumulate(row.begin(), row.end(), 0.0);
    for (size_t column = 0; column < row.size(); ++column) {
      if (row[column] > 0.0) {
        bits += row[column] / total * std::log2(row[column] * total / (sum * columns[column]));
      }
    }
  }
  return std::max(bits, 0.0);
}

DomainSpecialisation specialisation(
    const RoutingRecord& record, int64_t shuffles, int64_t seed) {
  DomainSpecialisation result;
  if (record.pieces.empty()) {
    result.layers.resize(record.layers.size());
    return result;
  }
  const auto units = make_units(record);
  result.unit = units.kind;
  result.units = static_cast<int64_t>(units.domain.size());
  result.shuffles = shuffles;
  std::mt19937_64 random(static_cast<uint64_t>(seed));
  std::vector<std::vector<size_t>> labels;
  for (int64_t i = 0; i < shuffles; ++i) {
    labels.push_back(shuffled(units.domain, random));
  }
  for (const auto& layer : record.layers) {
    result.layers.push_back(
        measure(unit_counts(record, layer, units), labels, units, record.domains.size()));
  }
  return result;
}

} // namespace moe
