#include "moe/training/routing_objective.h"

#include <algorithm>

#include "moe/decoder/decoder_lm.h"
#include "moe/error.h"
#include "moe/libtorch.h"
#include "moe/training/losses.h"

namespace moe {
namespace {

void add_counts(std::vector<torch::Tensor>& sums, const std::vector<torch::Tensor>& counts) {
  if (sums.empty()) {
    sums = counts;
    return;
  }
  for (size_t i = 0; i < sums.size(); ++i) {
    sums[i] = sums[i] + counts[i];
  }
}

/// The devices that a token of the model goes to at most.
int64_t devices_per_token(const DecoderOptions& model, int64_t devices) {
  const bool limited = selects_by_groups(model.router) && model.router.groups == devices;
  return limited ? model.router.groups_kept : std::min(model.experts_per_token, devices);
}

torch::Tensor global_balancing_loss(const RoutedBatch& batch, const RoutingSums& step) {
  const auto layers = batch.layers.size();
  const auto tokens = static_cast<double>(batch.layers.at(0).experts.size(0));
  const bool alone = step.all_counts.empty();
  const double share = alone ? 1.0 : tokens / static_cast<double>(step.all_tokens);
  torch::Tensor sum;
  for (size_t i = 0; i < layers; ++i) {
    const auto& counts = alone ? batch.counts[i] : step.all_counts[i];
    const auto loss = load_balancing_loss(batch.layers[i], counts);
    sum = i == 0 ? loss : sum + loss;
  }
  return sum * (share / static_cast<double>(layers));
}

} // namespace

RoutedBatch::RoutedBatch(std::vector<Routing> all, torch::Tensor mask, int64_t batch_size)
    : with_padding(std::move(all)),
      layers(with_padding),
      token_mask(std::move(mask)),
      num_sequences(batch_size) {
  if (token_mask.defined()) {
    const auto positions = token_mask.flatten().nonzero().squeeze(1); // [N]
    for (auto& routing : layers) {
      routing = select_tokens(routing, positions);
    }
  }
  for (const auto& routing : layers) {
    counts.push_back(chosen_counts(routing));
  }
}

void RoutingSums::report(StepMetrics& metrics) const {
  for (const auto& [name, value] : losses) {
    const double number = value.item<double>();
    if (name == "load_balancing_loss") {
      metrics.load_balancing_loss = number;
    } else if (name == "router_z_loss") {
      metrics.router_z_loss = number;
    } else {
      metrics.routing_losses.emplace_back(name, number);
    }
  }
}

template <class LayerLoss>
RoutingObjective::Loss RoutingObjective::mean_of(LayerLoss layer_loss) const {
  return [layer_loss, share = batch_share_](const RoutedBatch& batch, const RoutingSums&) {
    torch::Tensor sum;
    for (size_t i = 0; i < batch.layers.size(); ++i) {
      const torch::Tensor loss = layer_loss(batch, i);
      sum = i == 0 ? loss : sum + loss;
    }
    return sum * (share / static_cast<double>(batch.layers.size()));
  };
}

RoutingObjective::RoutingObjective(const TrainerOptions& options, const DecoderOptions& model)
    : batch_share_(1.0 / static_cast<double>(options.accumulation_steps)),
      looks_ahead_(
          options.global_balancing_weight > 0.0 && options.accumulation_steps > 1 &&
          !moe_layers(model).empty()) {
  check(
      model.layer_num_experts.empty() ||
          (options.pooled_balancing_weight == 0.0 && options.device_balancing_weight == 0.0 &&
           options.communication_balancing_weight == 0.0),
      "pooled_balancing_weight, device_balancing_weight and communication_balancing_weight "
      "need "
      "layers with equally many experts; this model has layer_num_experts");
  add_term(
      "load_balancing_loss",
      options.load_balancing_weight,
      mean_of([](const RoutedBatch& batch, size_t layer) {
        return load_balancing_loss(batch.layers[layer], batch.counts[layer]);
      }),
      /*always=*/true);
  add_term("global_balancing_loss", options.global_balancing_weight, global_balancing_loss);
  add_term(
      "sequence_balancing_loss",
      options.sequence_balancing_weight,
      mean_of([](const RoutedBatch& batch, size_t layer) {
        return sequence_balancing_loss(
            batch.with_padding[layer], batch.num_sequences, batch.token_mask);
      }));
  add_term(
      "pooled_balancing_loss",
      options.pooled_balancing_weight,
      [share = batch_share_](const RoutedBatch& batch, const RoutingSums&) {
        return pooled_balancing_loss(batch.layers) * share;
      });
  add_device_terms(options, model);
  add_term(
      "importance_loss",
      options.importance_weight,
      mean_of([](const RoutedBatch& batch, size_t layer) {
        return importance_loss(batch.layers[layer]);
      }));
  add_term(
      "router_z_loss",
      options.router_z_weight,
      mean_of([](const RoutedBatch& batch, size_t layer) {
        return router_z_loss(batch.layers[layer]);
      }),
      /*always=*/true);
}

void RoutingObjective::add_device_terms(
    const TrainerOptions& options, const DecoderOptions& model) {
  const double weight = options.device_balancing_weight;
  const double communication_weight = options.communication_balancing_weight;
  if (weight == 0.0 && communication_weight == 0.0) {
    return;
  }
  const int64_t devices =
      options.balancing_devices > 0 ? options.balancing_devices : model.router.groups;
  check(
      devices > 1 && model.num_experts % devices == 0,
      "balancing_devices: ",
      devices,
      " is not possible with device_balancing_weight or communication_balancing_weight; a "
      "divisor of num_experts (",
      model.num_experts,
      ") above 1");
  add_term(
      "device_balancing_loss",
      weight,
      mean_of([devices](const RoutedBatch& batch, size_t layer) {
        return device_balancing_loss(batch.layers[layer], devices);
      }));
  add_term(
      "communication_balancing_loss",
      communication_weight,
      mean_of([devices, most = devices_per_token(model, devices)](
                  const RoutedBatch& batch, size_t layer) {
        return communication_balancing_loss(batch.layers[layer], devices, most);
      }));
}

void RoutingObjective::add_term(const char* name, double weight, Loss loss, bool always) {
  if (weight > 0.0 || always) {
    terms_.push_back({name, weight, std::move(loss)});
  }
}

void RoutingObjective::look_ahead(const RoutedBatch& batch, RoutingSums& sums) const {
  add_counts(sums.all_counts, batch.counts);
  sums.all_tokens += batch.layers.at(0).experts.size(0);
}

torch::Tensor RoutingObjective::loss(const RoutedBatch& batch, RoutingSums& sums) const {
  auto objective = torch::zeros({}, batch.layers.at(0).scores.options());
  const bool first = sums.losses.empty();
  for (size_t i = 0; i < terms_.size(); ++i) {
    const auto& term = terms_[i];
    const torch::AutoGradMode gradient(term.weight > 0.0 && torch::GradMode::is_enabled());
    const auto value = term.loss(batch, sums);
    if (term.weight > 0.0) {
      objective = objective + value * term.weight;
    }
    if (first) {
      sums.losses.emplace_back(term.name, value.detach());
    } else {
      sums.losses[i].second = sums.losses[i].second + value.detach();
    }
  }
  add_counts(sums.counts, batch.counts);
  return objective;
}

} // namespace moe
