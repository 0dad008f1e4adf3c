#include "moe/training/peft_adapter.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "moe/checkpoint/huggingface/config.h"
#include "moe/checkpoint/state_dict.h"
#include "moe/checkpoint/tensor_parts.h"
#include "moe/files/atomic_file.h"
#include "moe/training/trainable_rows.h"

namespace moe {
namespace {

constexpr const char* kPrefix = "base_model.model.";
constexpr std::string_view kWeight = ".weight";

/// What goes into the two files.
struct PeftFiles {
  std::vector<std::string> modules;
  std::vector<std::string> parameters;
  StateDict tensors;
};

void add_matrices(
    PeftFiles& files,
    const std::string& module,
    const torch::Tensor& a,
    const torch::Tensor& b) {
  files.tensors.insert(kPrefix + module + ".lora_A.weight", a.contiguous());
  files.tensors.insert(kPrefix + module + ".lora_B.weight", b.contiguous());
}

/// Which rows of ours [out, in] the stored part holds; none unless it holds whole rows.
std::optional<torch::Tensor> rows_of_part(
    const TensorParts& parts, size_t part, const torch::Tensor& ours) {
  const int64_t width = ours.size(1);
  const auto numbers = torch::arange(ours.numel()).view(ours.sizes());
  const auto stored = stored_part(parts, part, numbers);
  if (stored.dim() != 2 || stored.size(1) != width) {
    return std::nullopt;
  }
  const auto rows = stored.select(/*dim=*/1, 0).div(width, "floor"); // [rows]
  const bool whole = torch::equal(stored, numbers.index_select(0, rows));
  return whole ? std::optional(rows) : std::nullopt;
}

/// Adds an adapter of one or several `torch.nn.Linear`; returns whether it has that form.
bool add_modules(PeftFiles& files, const TensorParts& parts, const LoraAdapter& adapter) {
  if (adapter.base.dim() != 2) {
    return false;
  }
  for (size_t i = 0; i < parts.size(); ++i) {
    const auto& name = parts[i].name;
    const auto rows = rows_of_part(parts, i, adapter.base);
    if (!rows || !name.ends_with(kWeight)) {
      return false;
    }
    const auto module = name.substr(0, name.size() - kWeight.size());
    files.modules.push_back(module);
    add_matrices(files, module, adapter.a.detach(), adapter.b.detach().index_select(0, *rows));
  }
  return true;
}

/// A parameter of a module of Hugging Face's with our shape.
struct WrappedParameter {
  std::string module;
  std::string name;
  const LoraAdapter* adapter = nullptr;
};

std::optional<WrappedParameter> wrapped_parameter(
    const TensorLayout& layout, const LoraAdapter& adapter) {
  for (const TensorParts& parts : layout.stored) {
    if (parts.size() == 1 && parts[0].shape == layout.ours.shape && parts[0].elements.empty()) {
      const auto& name = parts[0].name;
      return WrappedParameter{name.substr(0, name.rfind('.')), name, &adapter};
    }
  }
  return std::nullopt;
}

/// PEFT wraps a module once for each of its parameters, the first one innermost.
void add_parameters(PeftFiles& files, const std::vector<WrappedParameter>& wrapped) {
  for (size_t i = 0; i < wrapped.size(); ++i) {
    auto module = wrapped[i].module;
    for (size_t outer = i + 1; outer < wrapped.size(); ++outer) {
      module += wrapped[outer].module == wrapped[i].module ? ".base_layer" : "";
    }
    const auto& adapter = *wrapped[i].adapter;
    files.parameters.push_back(wrapped[i].name);
    const auto a = adapter.a.detach();
    const auto b = adapter.b.detach();
    add_matrices(
        files,
        module,
        a.reshape({-1, a.size(-1)}),                                       // [E · r, in]
        b.dim() == 2 ? b : b.permute({1, 2, 0}).reshape({b.size(1), -1})); // [out, r · E]
  }
}

std::string config_text(
    const PeftFiles& files, const LoraAdapters& adapters, const std::string& base_model) {
  const auto rank = adapters.rank();
  nlohmann::ordered_json config;
  config["peft_type"] = "LORA";
  config["peft_version"] = "0.19.0"; // the first that changes stacks [E, out, in] by B · A
  config["task_type"] = "CAUSAL_LM";
  config["base_model_name_or_path"] = base_model;
  config["r"] = rank;
  config["lora_alpha"] = adapters.scale() * static_cast<double>(rank);
  config["lora_dropout"] = 0.0;
  config["bias"] = "none";
  config["fan_in_fan_out"] = false;
  config["inference_mode"] = true;
  config["target_modules"] = files.modules;
  config["target_parameters"] = files.parameters;
  return config.dump(2) + "\n";
}

} // namespace

std::string write_peft_adapter(
    const std::filesystem::path& folder,
    const LoraAdapters& adapters,
    const DecoderOptions& options,
    const std::string& family,
    const std::string& base_model) {
  const auto config = write_config(options, {}, family);
  if (config.family == "moe_decoder") {
    return "no architecture of Hugging Face expresses this model";
  }
  const auto layouts = tensor_layouts(config.family, options, config.form);
  PeftFiles files;
  std::vector<WrappedParameter> wrapped;
  for (const LoraAdapter& adapter : adapters.adapters()) {
    const auto layout = std::find_if(layouts.begin(), layouts.end(), [&](const auto& entry) {
      return entry.ours.name == adapter.name;
    });
    const bool is_parameter =
        is_of_part(adapter.name, "experts") || is_of_part(adapter.name, "router");
    const auto parameter = is_parameter ? wrapped_parameter(*layout, adapter) : std::nullopt;
    if (parameter) {
      wrapped.push_back(*parameter);
    } else if (is_parameter || !add_modules(files, layout->stored[0], adapter)) {
      return adapter.name + " of " + config.family + " has no adapter in PEFT's layout";
    }
  }
  add_parameters(files, wrapped);
  std::filesystem::create_directories(folder);
  write_state_dict(files.tensors, folder / "adapter_model.safetensors");
  write_file_atomically(
      folder / "adapter_config.json", config_text(files, adapters, base_model));
  return "";
}

} // namespace moe
