#include "moe/editing/edited_model.h"

#include <algorithm>
#include <utility>

#include "moe/checkpoint/companion_files.h"
#include "moe/decoder/decoder_lm.h"
#include "moe/error.h"
#include "moe/files/atomic_folder.h"

namespace moe {
namespace {

torch::ScalarType dtype_from_name(const std::string& name) {
  return name == "bfloat16"  ? torch::kBFloat16
         : name == "float16" ? torch::kFloat16
         : name == "float64" ? torch::kFloat64
                             : torch::kFloat32;
}

} // namespace

std::vector<std::string> save_edited_model(
    const std::filesystem::path& folder, const EditedModel& model, const ModelFolder& source) {
  check_is_new(folder);
  ModelExtras extras;
  extras.dtype = dtype_from_name(source.extras().dtype);
  extras.keep_types = true;
  extras.family = source.family();
  extras.load_balancing_weight = source.extras().load_balancing_weight;
  extras.bos_token_id = source.extras().bos_token_id;
  extras.eos_token_ids = source.extras().eos_token_ids;
  AtomicFolder target(folder);
  auto notices = write_model_files(target.path(), model.options, model.tensors, extras);
  copy_companions(source.path(), target.path());
  // What the source records is of its own experts.
  std::error_code ignored;
  std::filesystem::remove(target.path() / "new_experts.json", ignored);
  if (!model.new_experts.empty()) {
    write_new_experts(target.path(), model.new_experts);
  }
  target.commit();
  return notices;
}

std::vector<int64_t> chosen_layers(
    const DecoderOptions& options, const std::vector<int64_t>& layers) {
  check(options.num_experts > 0, "the model has no experts");
  for (const int64_t layer : layers) {
    check(
        layer >= 0 && layer < options.num_layers && is_moe_layer(options, layer),
        "layers: ",
        layer,
        " is not a layer with experts");
  }
  auto chosen = layers.empty() ? moe_layers(options) : layers;
  std::sort(chosen.begin(), chosen.end());
  chosen.erase(std::unique(chosen.begin(), chosen.end()), chosen.end());
  return chosen;
}

DecoderOptions with_layer_experts(
    const DecoderOptions& options, const std::map<int64_t, int64_t>& experts) {
  DecoderOptions result = options;
  result.layer_num_experts.clear();
  result.num_experts = 0;
  for (int64_t layer = 0; layer < options.num_layers; ++layer) {
    const auto found = experts.find(layer);
    const int64_t count =
        found != experts.end() ? found->second : layer_experts(options, layer);
    result.layer_num_experts.push_back(count);
    result.num_experts = std::max(result.num_experts, count);
  }
  const auto layers = moe_layers(result);
  const bool same = std::all_of(layers.begin(), layers.end(), [&](int64_t layer) {
    return layer_experts(result, layer) == result.num_experts;
  });
  if (same) {
    result.layer_num_experts.clear();
  }
  return result;
}

void replace_tensor(
    LazyTensors& tensors,
    const std::string& name,
    std::vector<int64_t> shape,
    const std::function<torch::Tensor(const torch::Tensor&)>& change) {
  auto& tensor = tensors.at(name);
  tensor.shape = std::move(shape);
  tensor.make = [make = tensor.make, change] { return change(make()); };
}

std::vector<std::string> expert_tensor_names(const DecoderOptions& options, int64_t layer) {
  const std::string prefix = "layers." + std::to_string(layer) + ".moe.";
  std::vector<std::string> names;
  for (const NamedShape& tensor : decoder_tensors(options)) {
    if (!tensor.name.starts_with(prefix)) {
      continue;
    }
    const auto rest = tensor.name.substr(prefix.size());
    const bool common = rest == "router.projection" || rest == "router.log_scale";
    if (!common && (rest.starts_with("router.") || rest.find('.') == std::string::npos)) {
      names.push_back(tensor.name);
    }
  }
  return names;
}

void check_experts_can_change(const DecoderOptions& options, const std::string& operation) {
  check(
      options.router.selection == RouterSelection::top_k,
      operation,
      ": router_selection is ",
      enum_name(options.router.selection),
      "; only experts that are chosen as the best of all (top_k) can be added or removed");
}

void check_rows_can_be_fitted(const DecoderOptions& options, const std::string& operation) {
  check_experts_can_change(options, operation);
  check(
      options.router.gate == RouterGate::linear,
      operation,
      ": router_gate is ",
      enum_name(options.router.gate),
      "; rows of the router can be added to a linear one only");
}

} // namespace moe
