#include "apps/report/findings.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace moe {
namespace {

// The mean load times this is too much for one expert.
constexpr double kOverload = 3.0;
// Share of the mean load below which an expert is dead, as in LayerRouting::dead.
constexpr double kDeadLoad = 0.01;
constexpr double kIdleLoad = 0.1;
constexpr size_t kMostNames = 8;

/// "3", "3 and 5", "3, 5 and 7", or the first eight "and 12 more".
std::string list_of(const std::vector<size_t>& numbers) {
  const auto shown = std::min(numbers.size(), kMostNames);
  const std::vector<size_t> first(
      numbers.begin(), numbers.begin() + static_cast<std::ptrdiff_t>(shown));
  if (numbers.size() > shown) {
    return fmt::format("{} and {} more", fmt::join(first, ", "), numbers.size() - shown);
  }
  if (numbers.size() == 1) {
    return fmt::format("{}", numbers.front());
  }
  return fmt::format(
      "{} and {}", fmt::join(first.begin(), first.end() - 1, ", "), first.back());
}

void add_dead(const LayerRouting& layer, std::vector<Finding>& findings) {
  std::vector<size_t> dead;
  for (size_t expert = 0; expert < layer.load.size(); ++expert) {
    if (layer.load[expert] * static_cast<double>(layer.load.size()) < kDeadLoad) {
      dead.push_back(expert);
    }
  }
  if (dead.empty()) {
    return;
  }
  const bool one = dead.size() == 1;
  findings.push_back(
      {Finding::Kind::warning,
       fmt::format(
           "Layer {}: {} {} {} next to nothing of this text (below 1 % of the mean load). {} "
           "parameters without use: train with more weight on the balancing loss, or prune {}.",
           layer.layer,
           one ? "expert" : "experts",
           list_of(dead),
           one ? "gets" : "get",
           one ? "It is" : "They are",
           one ? "it" : "them")});
}

void add_idle(const LayerRouting& layer, std::vector<Finding>& findings) {
  std::vector<size_t> idle;
  for (size_t expert = 0; expert < layer.load.size(); ++expert) {
    const double relative = layer.load[expert] * static_cast<double>(layer.load.size());
    if (relative >= kDeadLoad && relative < kIdleLoad) {
      idle.push_back(expert);
    }
  }
  if (!idle.empty()) {
    findings.push_back(
        {Finding::Kind::note,
         fmt::format(
             "Layer {}: {} {} {} less than a tenth of the mean load.",
             layer.layer,
             idle.size() == 1 ? "expert" : "experts",
             list_of(idle),
             idle.size() == 1 ? "gets" : "get")});
  }
}

void add_overload(const LayerRouting& layer, std::vector<Finding>& findings) {
  const auto busiest = std::max_element(layer.load.begin(), layer.load.end());
  if (layer.load.size() < 2 || layer.max_violation + 1.0 < kOverload) {
    return;
  }
  findings.push_back(
      {Finding::Kind::warning,
       fmt::format(
           "Layer {}: expert {} gets {:.1f} times the mean load ({:.0f} % of all choices). If "
           "this holds for training text too, the layer learns less than its size allows.",
           layer.layer,
           busiest - layer.load.begin(),
           layer.max_violation + 1.0,
           *busiest * 100.0)});
}

std::string unit_name(ShuffleUnit unit) {
  return unit == ShuffleUnit::document ? "documents" : "pieces of text";
}

void add_domains(
    const std::vector<LayerRouting>& layers,
    const DomainSpecialisation& domains,
    std::vector<Finding>& findings) {
  size_t best = 0;
  size_t above = 0;
  for (size_t i = 0; i < domains.layers.size(); ++i) {
    const auto& layer = domains.layers[i];
    best = layer.bits > domains.layers[best].bits ? i : best;
    above += layer.bits > layer.chance_95 ? 1 : 0;
  }
  const auto& most = domains.layers[best];
  if (above == 0) {
    findings.push_back(
        {Finding::Kind::note,
         fmt::format(
             "No layer's experts tell more of the domain than shuffled {} do: on this text "
             "there is no sign that experts specialise by domain.",
             unit_name(domains.unit))});
    return;
  }
  findings.push_back(
      {Finding::Kind::good,
       fmt::format(
           "Experts specialise by domain in {} of {} layers, most in layer {}: knowing an "
           "expert tells {:.2f} bits of the domain, {:.0f} % of the most possible. Shuffled {} "
           "reach {:.2f} bits (95 % of {} shuffles).",
           above,
           domains.layers.size(),
           layers[best].layer,
           most.bits,
           most.share * 100.0,
           unit_name(domains.unit),
           most.chance_95,
           domains.shuffles)});
}

} // namespace

std::string finding_kind_name(Finding::Kind kind) {
  switch (kind) {
    case Finding::Kind::good:
      return "good";
    case Finding::Kind::warning:
      return "warning";
    case Finding::Kind::note:
      break;
  }
  return "note";
}

std::vector<Finding> find_remarks(
    const std::vector<LayerRouting>& layers,
    const DomainSpecialisation& domains,
    size_t num_domains) {
  std::vector<Finding> findings;
  for (const auto& layer : layers) {
    add_dead(layer, findings);
    add_overload(layer, findings);
    add_idle(layer, findings);
  }
  if (findings.empty()) {
    findings.push_back(
        {Finding::Kind::good,
         fmt::format(
             "Every expert of every layer works, and none gets more than {:g} times the mean "
             "load.",
             kOverload)});
  }
  if (num_domains > 1) {
    add_domains(layers, domains, findings);
  } else {
    findings.push_back(
        {Finding::Kind::note,
         "There is one domain only, so nothing can be said of which experts serve which."});
  }
  if (num_domains > 1 && domains.unit == ShuffleUnit::piece) {
    findings.push_back(
        {Finding::Kind::note,
         "A domain has fewer than four documents, so chance is measured by shuffling pieces of "
         "them. Pieces of one document are alike, which makes chance look smaller than it "
         "is."});
  }
  return findings;
}

} // namespace moe
