// A mixture of experts outside of language: a classifier of vectors that come from several
// processes, each with a place and a rule of its own, against one network that computes as much
// per vector. Tells the accuracy on held-out data, and which expert serves which process.
//
//   processes [SEEDS [STEPS]]

#include <torch/nn.h>
#include <torch/optim.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "moe/moe.h"

namespace {

constexpr int64_t kProcesses = 8;
constexpr int64_t kInputs = 64; // elements of a vector
constexpr int64_t kLatent = 12; // numbers that a process makes a vector of
constexpr int64_t kClasses = 10;
constexpr int64_t kWidth = 64;  // D of the classifiers
constexpr int64_t kExperts = 8; // E
constexpr int64_t kChosen = 2;  // K
constexpr int64_t kHidden = 64; // F of an expert; the one network has K · F
constexpr int64_t kBatch = 512;

struct Data {
  torch::Tensor inputs;    // [N, kInputs]
  torch::Tensor labels;    // [N]
  torch::Tensor processes; // [N]
};

// Process p draws z, shows it as a point of a curved surface of its own, and labels it by a
// network of its own. The surfaces cross: where a vector lies does not say all.
class World {
 public:
  World() {
    centres_ = torch::randn({kProcesses, kInputs}) * 0.5;
    surface_ = torch::randn({kProcesses, kLatent, kInputs}) / std::sqrt(kLatent);
    bend_ = torch::randn({kProcesses, kLatent, kInputs}) / std::sqrt(kLatent);
    rule_in_ = torch::randn({kProcesses, kLatent, 48}) / std::sqrt(kLatent) * 2.0;
    rule_out_ = torch::randn({kProcesses, 48, kClasses});
  }

  Data draw(int64_t count) const {
    const auto process = torch::randint(kProcesses, {count});
    const auto z = torch::randn({count, 1, kLatent});
    const auto of = [&](const torch::Tensor& each) { return each.index_select(0, process); };
    const auto point = z.bmm(of(surface_)) + torch::sin(z * 2.0).bmm(of(bend_)); // [N, 1, I]
    const auto score = torch::tanh(z.bmm(of(rule_in_))).bmm(of(rule_out_));      // [N, 1, C]
    return {
        point.squeeze(1) + of(centres_) + 0.1 * torch::randn({count, kInputs}),
        score.squeeze(1).argmax(1),
        process};
  }

 private:
  torch::Tensor centres_, surface_, bend_, rule_in_, rule_out_;
};

// A classifier around either kind of feed-forward layer.
template <class FeedForward>
struct ClassifierImpl : torch::nn::Module {
  explicit ClassifierImpl(FeedForward layer)
      : input(register_module("input", torch::nn::Linear(kInputs, kWidth))),
        feed_forward(register_module("feed_forward", layer)),
        output(register_module("output", torch::nn::Linear(kWidth, kClasses))) {}

  torch::nn::Linear input;
  FeedForward feed_forward;
  torch::nn::Linear output;
};

using Sparse = ClassifierImpl<moe::SparseMoEBlock>;
using Dense = ClassifierImpl<moe::Expert>;

struct Answer {
  torch::Tensor logits; // [N, kClasses]
  moe::Routing routing; // empty for the one network
};

Answer answer(Sparse& model, const torch::Tensor& inputs) {
  const auto x = model.input(inputs);
  const auto mixed = model.feed_forward->forward_with_routing(x);
  return {model.output(x + mixed.output), mixed.routing};
}

Answer answer(Dense& model, const torch::Tensor& inputs) {
  const auto x = model.input(inputs);
  return {model.output(x + model.feed_forward(x)), {}};
}

template <class Model>
double held_out_accuracy(Model& model, const Data& data) {
  const torch::NoGradGuard no_grad;
  const auto right = answer(model, data.inputs).logits.argmax(1) == data.labels;
  return right.to(torch::kFloat64).mean().template item<double>();
}

template <class Model>
double train(Model& model, const World& world, const Data& held_out, int64_t steps) {
  torch::optim::AdamW optimizer(
      model.parameters(), torch::optim::AdamWOptions(3e-3).weight_decay(0.01));
  for (int64_t step = 0; step < steps; ++step) {
    for (auto& group : optimizer.param_groups()) {
      const double rest = 1.0 - static_cast<double>(step) / static_cast<double>(steps);
      group.options().set_lr(3e-3 * rest);
    }
    const auto batch = world.draw(kBatch);
    const auto [logits, routing] = answer(model, batch.inputs);
    auto loss = torch::nn::functional::cross_entropy(logits, batch.labels);
    if (routing.experts.defined()) {
      loss = loss + 0.01 * moe::load_balancing_loss(routing);
    }
    optimizer.zero_grad();
    loss.backward();
    optimizer.step();
  }
  return held_out_accuracy(model, held_out);
}

// How many rows of each process went to each expert: [kProcesses, kExperts].
torch::Tensor service(Sparse& model, const Data& data) {
  const torch::NoGradGuard no_grad;
  const auto experts = answer(model, data.inputs).routing.experts; // [N, K]
  const auto cell = (data.processes.unsqueeze(1) * kExperts + experts).flatten();
  return torch::bincount(cell, /*weights=*/{}, kProcesses * kExperts)
      .view({kProcesses, kExperts})
      .to(torch::kFloat64);
}

// What the expert tells about the process, in bits; at most log2(kProcesses) = 3.
double mutual_information(const torch::Tensor& counts) {
  const auto joint = counts / counts.sum();
  const auto apart = joint.sum(1, /*keepdim=*/true) * joint.sum(0, /*keepdim=*/true);
  return torch::xlogy(joint, joint / apart).nansum().item<double>() / std::log(2.0);
}

void print_service(const torch::Tensor& counts) {
  const auto share = counts / counts.sum(1, /*keepdim=*/true) * 100.0;
  std::printf("share of each process's rows by expert, %%:\n");
  for (int64_t p = 0; p < kProcesses; ++p) {
    std::printf("  process %lld", static_cast<long long>(p));
    for (int64_t e = 0; e < kExperts; ++e) {
      std::printf(" %5.1f", share[p][e].item<double>());
    }
    std::printf("\n");
  }
}

} // namespace

int main(int argc, char** argv) {
  const int64_t seeds = argc > 1 ? std::atoll(argv[1]) : 3;
  const int64_t steps = argc > 2 ? std::atoll(argv[2]) : 4000;
  torch::Tensor last;
  for (int64_t seed = 0; seed < seeds; ++seed) {
    torch::manual_seed(seed);
    const World world;
    const Data held_out = world.draw(20000);
    Sparse sparse(moe::SparseMoEBlock(moe::SparseMoEBlockOptions(kWidth, kExperts)
                                          .experts_per_token(kChosen)
                                          .expert_dim(kHidden)));
    Dense dense(moe::Expert(moe::ExpertOptions(kWidth, kChosen * kHidden)));
    const double of_experts = train(sparse, world, held_out, steps);
    const double of_one = train(dense, world, held_out, steps);
    last = service(sparse, held_out);
    std::printf(
        "seed %lld: accuracy with experts %.3f, one network %.3f; the expert tells %.2f bits "
        "about the process\n",
        static_cast<long long>(seed),
        of_experts,
        of_one,
        mutual_information(last));
  }
  print_service(last);
  return 0;
}
