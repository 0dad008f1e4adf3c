// moe_oracle_parity [--save FOLDER] CHECKPOINT...: compares models with what transformers
// computed from the same checkpoint. A line for each; exit status 1 if any differs. With --save
// each is saved again below FOLDER.

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <span>
#include <sstream>
#include <string>
#include <vector>

#include "moe/checkpoint/model_folder.h"
#include "moe/checkpoint/tensor_parts.h"
#include "moe/decoder/decoder_lm.h"
#include "moe/decoder/next_token_loss.h"
#include "moe/files/json_internal.h"
#include "moe/generation/inference_session.h"
#include "moe/libtorch.h"

namespace {

namespace fs = std::filesystem;
using namespace moe;

constexpr int64_t kPrompt = 8;
constexpr double kGradientTolerance = 1e-3;

// The largest difference in units of what is tolerated: at most 1 is equal.
double excess(
    const torch::Tensor& actual,
    const torch::Tensor& expected,
    double absolute,
    double relative) {
  const auto difference = (actual - expected).abs();
  return (difference / (expected.abs() * relative + absolute)).max().item<double>();
}

class Comparison {
 public:
  Comparison(const fs::path& path, const fs::path& saved)
      : path_(path), saved_(saved), folder_(path), model_(folder_.options()) {
    folder_.load_into(*model_);
    model_->eval(); // in training, some routers draw
    expected_ = read_state_dict(path / "reference.safetensors");
    reference_ = Json::parse(std::ifstream(path / "reference.json"));
  }

  std::string run() {
    compare_forward();
    compare_gradients();
    compare_greedy();
    compare_session();
    compare_saved();
    if (!faults_.empty()) {
      return "DIFFERS " + path_.filename().string() + faults_;
    }
    std::ostringstream text;
    text << "ok " << path_.filename().string() << measured_.str();
    for (const auto& notice : folder_.notices()) {
      text << " [" << notice.substr(notice.rfind('/') + 1) << "]";
    }
    return text.str();
  }

 private:
  void fault(const std::string& what) {
    faults_ += "; " + what;
  }

  void compare(const std::string& name, const torch::Tensor& actual, const std::string& kind) {
    const torch::Tensor* expected = expected_.find(name);
    if (expected == nullptr) {
      fault("no " + name + " in the reference");
      return;
    }
    const Json& tolerance = reference_["tolerance"][kind];
    if (actual.sizes() != expected->sizes()) {
      std::ostringstream sizes;
      sizes << name << " " << actual.sizes() << " instead of " << expected->sizes();
      fault(sizes.str());
      return;
    }
    const double off = excess(actual, *expected, tolerance["atol"], tolerance["rtol"]);
    if (!(off <= 1.0)) {
      std::ostringstream text;
      text << name << " off by " << (actual - *expected).abs().max().item<double>() << " of "
           << expected->abs().max().item<double>();
      fault(text.str());
    }
  }

  void compare_forward() {
    const torch::NoGradGuard no_grad;
    const auto output = model_->trace(expected_["input_ids"]);
    for (size_t i = 0; i < output.hidden_states.size(); ++i) {
      compare("hidden_states." + std::to_string(i), output.hidden_states[i], "hidden_states");
    }
    const auto logits = model_->logits(output.hidden);
    compare("logits", logits, "logits");
    if (const auto* expected = expected_.find("logits")) {
      if (expected->sizes() == logits.sizes()) {
        measured_ << " logits " << (logits - *expected).abs().max().item<double>();
      }
    }
    const auto layers = moe_layers(folder_.options());
    for (size_t i = 0; i < layers.size(); ++i) {
      compare_routing("router." + std::to_string(layers[i]) + ".", output.routing[i]);
    }
  }

  void compare_routing(const std::string& prefix, const Routing& routing) {
    const auto sizes = expected_["input_ids"].sizes();
    const auto shaped = [&](const torch::Tensor& tensor) {
      return tensor.view({sizes[0], sizes[1], -1});
    };
    compare(prefix + "logits", shaped(routing.logits), "router");
    const auto [experts, order] = routing.experts.sort(-1);
    if (const auto* ids = expected_.find(prefix + "expert_ids");
        ids == nullptr || !shaped(experts).equal(*ids)) {
      fault(prefix + "expert_ids differ");
    }
    auto weights = shaped(routing.weights.gather(-1, order));
    if (folder_.family() == "laguna") { // it scales what the experts give, not their weights
      weights = weights / folder_.options().router.routed_scaling_factor;
    }
    compare(prefix + "expert_weights", weights, "router");
  }

  void compare_gradients() {
    const auto ids = expected_["input_ids"];
    compare("loss", whole_loss(ids), "loss");
    double worst = 0.0;
    size_t compared = 0;
    const auto parameters = model_->named_parameters();
    const ModelFiles files(path_);
    for (const TensorLayout& layout :
         tensor_layouts(folder_.family(), folder_.options(), files.config().form)) {
      const torch::Tensor* parameter = parameters.find(layout.ours.name);
      if (parameter == nullptr) {
        continue;
      }
      for (const TensorParts& parts : layout.stored) {
        for (size_t i = 0; i < parts.size(); ++i) {
          const torch::Tensor* expected = expected_.find("grad." + parts[i].name);
          if (expected == nullptr || parts[i].encoding != StoredEncoding::plain) {
            continue;
          }
          ++compared;
          const auto gradient =
              parameter->grad().defined() ? parameter->grad() : torch::zeros_like(*parameter);
          const auto actual = stored_part(parts, i, gradient);
          const double off = excess(
              actual,
              *expected,
              kGradientTolerance * expected->abs().max().item<double>(),
              kGradientTolerance);
          worst = std::max(worst, off);
          if (!(off <= 1.0)) {
            fault("grad." + parts[i].name + " off by " + std::to_string(off) + " tolerances");
          }
        }
      }
    }
    const auto given = static_cast<size_t>(
        std::count_if(expected_.begin(), expected_.end(), [](const auto& item) {
          return item.key().starts_with("grad.");
        }));
    if (compared != given) {
      fault(
          "only " + std::to_string(compared) + " of " + std::to_string(given) +
          " gradients have a tensor");
    }
    measured_ << " gradients " << compared << " within " << worst * kGradientTolerance;
  }

  // The loss over the first S - 1 positions of a pass over S, and its gradients.
  torch::Tensor whole_loss(const torch::Tensor& ids) {
    model_->zero_grad();
    const auto hidden = model_->forward(ids).hidden;
    const auto head = model_->head_operands(hidden.slice(1, 0, ids.size(1) - 1).contiguous());
    const auto loss = next_token_loss(head.rows, head.weight, ids.slice(1, 1).contiguous());
    loss.backward();
    return loss.detach();
  }

  void compare_greedy() {
    const torch::NoGradGuard no_grad;
    const auto ids = expected_["input_ids"];
    const auto expected = expected_["greedy_ids"];
    const int64_t length = expected.size(1);
    auto state = model_->make_state(ids.size(0), kPrompt + length);
    auto input = ids.slice(1, 0, kPrompt);
    std::vector<torch::Tensor> chosen;
    for (int64_t i = 0; i < length; ++i) {
      const auto hidden = model_->forward(input, state).hidden;
      input = model_->logits(hidden.slice(1, -1)).argmax(-1); // [B, 1]
      chosen.push_back(input);
    }
    check_greedy("model", torch::cat(chosen, 1), expected);
  }

  // The same through what generates text, from packed weights where they are packed.
  void compare_session() {
    const auto session = make_inference_session(model_);
    const auto expected = expected_["greedy_ids"];
    const auto ids = expected_["input_ids"].to(torch::kInt32).contiguous();
    const int64_t batch = ids.size(0);
    const int64_t length = expected.size(1);
    session->begin(batch, kPrompt + length);
    std::vector<int32_t> next;
    for (int64_t b = 0; b < batch; ++b) {
      const int32_t* const row = ids[b].const_data_ptr<int32_t>();
      next.push_back(best_of(session->prefill(b, {row, kPrompt})));
    }
    const auto actual = torch::empty_like(expected);
    for (int64_t i = 0; i < length; ++i) {
      for (int64_t b = 0; b < batch; ++b) {
        actual[b][i] = next[static_cast<size_t>(b)];
      }
      const auto logits = session->decode(next);
      const auto vocab = logits.size() / next.size();
      for (size_t b = 0; b < next.size(); ++b) {
        next[b] = best_of(logits.subspan(b * vocab, vocab));
      }
    }
    check_greedy(session->description(), actual, expected);
    measured_ << ", " << session->description();
  }

  static int32_t best_of(std::span<const float> logits) {
    return static_cast<int32_t>(
        std::max_element(logits.begin(), logits.end()) - logits.begin());
  }

  void check_greedy(
      const std::string& by, const torch::Tensor& actual, const torch::Tensor& expected) {
    const auto* recomputed = expected_.find("greedy_ids_no_cache");
    if (!actual.equal(expected) && (recomputed == nullptr || !actual.equal(*recomputed))) {
      std::ostringstream text;
      text << "greedy ids of " << by << " differ first at "
           << (actual != expected).any(0).nonzero().min().item<int64_t>();
      fault(text.str());
    }
  }

  void compare_saved() {
    const auto target = saved_ / path_.filename();
    fs::remove_all(target);
    const auto tensors = folder_.tensors();
    ModelExtras extras;
    extras.family = folder_.family();
    extras.keep_types = true;
    extras.dtype = find_type(folder_.extras().dtype);
    for (const auto& notice : save_model_folder(target, folder_.options(), tensors, extras)) {
      fault("saved with the notice " + notice);
    }
    const ModelFolder again(target);
    if (again.family() != folder_.family()) {
      fault("saved as " + again.family());
    }
    if (!(canonical(again.options()) == canonical(folder_.options()))) {
      fault("saved with other options");
    }
    if (!again.notices().empty()) {
      fault("saved with the notice " + again.notices()[0]);
    }
    const auto saved = again.tensors();
    for (const auto& item : tensors) {
      if (!saved.contains(item.key()) || !saved[item.key()].equal(item.value()) ||
          saved[item.key()].scalar_type() != item.value().scalar_type()) {
        fault("saved " + item.key() + " differs");
      }
    }
  }

  static torch::ScalarType find_type(const std::string& name) {
    return name == "bfloat16" ? torch::kBFloat16 : torch::kFloat32;
  }

  fs::path path_;
  fs::path saved_;
  ModelFolder folder_;
  DecoderLM model_;
  StateDict expected_;
  Json reference_;
  std::string faults_;
  std::ostringstream measured_;
};

} // namespace

int main(int argc, char** argv) {
  std::vector<fs::path> checkpoints(argv + 1, argv + argc);
  fs::path saved = fs::temp_directory_path() / "moe_oracle_parity";
  if (checkpoints.size() >= 2 && checkpoints[0] == "--save") {
    saved = checkpoints[1];
    checkpoints.erase(checkpoints.begin(), checkpoints.begin() + 2);
  }
  fs::create_directories(saved);
  size_t differing = 0;
  size_t refused = 0;
  for (const fs::path& checkpoint : checkpoints) {
    std::string line;
    try {
      line = Comparison(checkpoint, saved).run();
    } catch (const std::exception& error) {
      const std::string text = error.what();
      line = (text.find(" is not supported: it has ") == std::string::npos ? "FAILED "
                                                                           : "refused ") +
             checkpoint.filename().string() + ": " +
             text.substr(0, text.find('\n')).substr(0, 400);
    }
    std::printf("%s\n", line.c_str());
    std::fflush(stdout);
    refused += line.starts_with("refused") ? 1 : 0;
    differing += line.starts_with("ok") || line.starts_with("refused") ? 0 : 1;
  }
  std::printf(
      "%zu checkpoints: %zu differ, %zu are of architectures that are refused\n",
      checkpoints.size(),
      differing,
      refused);
  return differing == 0 && !checkpoints.empty() ? 0 : 1;
}
