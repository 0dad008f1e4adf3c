#include "moe/checkpoint/model_folder.h"

#include <utility>

#include "moe/checkpoint/tensor_parts.h"
#include "moe/checkpoint/tensor_problems_internal.h"
#include "moe/error.h"
#include "moe/files/atomic_file.h"
#include "moe/files/atomic_folder.h"
#include "moe/files/json_internal.h"
#include "moe/libtorch.h"

namespace moe {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMostNames = 10;

std::string dtype_name(torch::ScalarType type) {
  switch (type) {
    case torch::kFloat32:
      return "float32";
    case torch::kBFloat16:
      return "bfloat16";
    case torch::kFloat16:
      return "float16";
    case torch::kFloat64:
      return "float64";
    default:
      fail("dtype: ", torch::toString(type), " cannot be the type of stored weights");
  }
}

// Compares what a model needs with what is there, in either direction.
void check_same_tensors(
    const std::vector<NamedShape>& needed,
    const std::vector<NamedShape>& present,
    const std::string& where) {
  std::map<std::string, const NamedShape*> left;
  for (const NamedShape& tensor : present) {
    left[tensor.name] = &tensor;
  }
  TensorProblems problems;
  for (const NamedShape& tensor : needed) {
    const auto found = left.find(tensor.name);
    if (found == left.end()) {
      problems.missing.push_back(tensor.name);
      continue;
    }
    if (found->second->shape != tensor.shape) {
      problems.misfits.push_back(shape_misfit(tensor.name, found->second->shape, tensor.shape));
    }
    left.erase(found);
  }
  for (const auto& [name, tensor] : left) {
    problems.unexpected.push_back(name);
  }
  check(problems.none(), where, ": ", problems.text(kMostNames));
}

void write_tokenizer(
    const fs::path& folder, const DecoderOptions& options, const ModelExtras& extras) {
  write_file_atomically(folder / "tokenizer.json", extras.tokenizer_json);
  OrderedJson config;
  config["tokenizer_class"] = "PreTrainedTokenizerFast";
  if (!extras.eos_token_ids.empty()) {
    config["eos_token"] = extras.end_of_text;
  }
  config["model_max_length"] = options.context_length;
  config["clean_up_tokenization_spaces"] = false;
  write_file_atomically(folder / "tokenizer_config.json", config.dump(2) + "\n");
}

std::vector<NamedShape> shapes_of(const StateDict& tensors) {
  std::vector<NamedShape> shapes;
  for (const auto& item : tensors) {
    shapes.push_back({item.key(), item.value().sizes().vec()});
  }
  return shapes;
}

std::vector<NamedShape> shapes_of(const LazyTensors& tensors) {
  std::vector<NamedShape> shapes;
  for (const auto& [name, tensor] : tensors) {
    shapes.push_back({name, tensor.shape});
  }
  return shapes;
}

// "layers.3." of "layers.3.moe.down_proj"; nothing for tensors of no layer.
std::string_view layer_prefix(std::string_view name) {
  constexpr std::string_view kLayers = "layers.";
  return name.starts_with(kLayers) ? name.substr(0, name.find('.', kLayers.size()) + 1) : "";
}

// Keeps the tensors of one layer: a file has their parts, by name, one after the other.
class LayerTensorCache {
 public:
  explicit LayerTensorCache(const LazyTensors& tensors) : tensors_(tensors) {}

  torch::Tensor get(const std::string& name) {
    if (const std::string prefix(layer_prefix(name)); made_.empty() || prefix != prefix_) {
      made_.clear();
      prefix_ = prefix;
    }
    const auto found = made_.find(name);
    return found != made_.end() ? found->second
                                : made_.emplace(name, tensors_.at(name).make()).first->second;
  }

 private:
  const LazyTensors& tensors_;
  std::map<std::string, torch::Tensor> made_;
  std::string prefix_;
};

LazyTensors lazy_tensors_of(const StateDict& tensors) {
  LazyTensors lazy;
  for (const auto& item : tensors) {
    const auto& tensor = item.value();
    lazy[item.key()] = {
        tensor.sizes().vec(), tensor.scalar_type(), [tensor] { return tensor; }};
  }
  return lazy;
}

// `shown` is the folder as its user knows it.
std::vector<std::string> write_files(
    const fs::path& folder,
    const fs::path& shown,
    const DecoderOptions& options,
    const LazyTensors& tensors,
    const ModelExtras& extras) {
  ConfigExtras config_extras;
  config_extras.load_balancing_weight = extras.load_balancing_weight;
  config_extras.dtype = dtype_name(extras.dtype);
  config_extras.bos_token_id = extras.bos_token_id;
  config_extras.eos_token_ids = extras.eos_token_ids;
  const WrittenConfig config = write_config(options, config_extras, extras.family);
  check_same_tensors(
      decoder_tensors(options),
      shapes_of(tensors),
      shown.string() + ": the tensors are not those of a DecoderLM with these options");
  LayerTensorCache cache(tensors);
  std::vector<TensorSource> sources;
  for (const TensorLayout& layout : tensor_layouts(config.family, options, config.form)) {
    const std::string& name = layout.ours.name;
    const auto type = extras.keep_types ? tensors.at(name).type
                      : is_buffer(name) ? torch::kFloat32
                                        : extras.dtype;
    const auto tensor = [&cache, name] { return cache.get(name); };
    for (auto& source : part_sources(layout.stored[0], tensor, type)) {
      sources.push_back(std::move(source));
    }
  }
  write_safetensors_folder(
      folder, std::move(sources), {{"format", "pt"}}, extras.max_shard_bytes);
  write_file_atomically(folder / "config.json", config.config);
  write_file_atomically(folder / "generation_config.json", config.generation_config);
  if (!extras.tokenizer_json.empty()) {
    write_tokenizer(folder, options, extras);
  }
  return config.notices;
}

} // namespace

std::vector<std::string> write_model_files(
    const fs::path& folder,
    const DecoderOptions& options,
    const StateDict& tensors,
    const ModelExtras& extras) {
  return write_files(folder, folder, options, lazy_tensors_of(tensors), extras);
}

std::vector<std::string> write_model_files(
    const fs::path& folder,
    const DecoderOptions& options,
    const LazyTensors& tensors,
    const ModelExtras& extras) {
  return write_files(folder, folder, options, tensors, extras);
}

std::vector<std::string> save_model_folder(
    const fs::path& folder,
    const DecoderOptions& options,
    const StateDict& tensors,
    const ModelExtras& extras) {
  check_is_new(folder);
  AtomicFolder target(folder);
  auto notices = write_files(target.path(), folder, options, lazy_tensors_of(tensors), extras);
  target.commit();
  return notices;
}

ModelFolder::ModelFolder(const fs::path& folder) : files_(folder) {}

const fs::path& ModelFolder::path() const {
  return files_.folder();
}

const DecoderOptions& ModelFolder::options() const {
  return files_.config().options;
}

const ConfigExtras& ModelFolder::extras() const {
  return files_.config().extras;
}

const std::string& ModelFolder::family() const {
  return files_.config().family;
}

const std::vector<std::string>& ModelFolder::notices() const {
  return files_.config().notices;
}

void ModelFolder::load_into(torch::nn::Module& module) const {
  const StateDict targets = state_dict(module);
  std::vector<NamedShape> ours;
  for (const TensorOrigin& origin : files_.origins()) {
    ours.push_back(origin.ours);
  }
  check_same_tensors(
      ours,
      shapes_of(targets),
      path().string() + ": the module is not a DecoderLM with these options");
  for (const TensorOrigin& origin : files_.origins()) {
    copy_parts(files_, origin.parts, targets[origin.ours.name]);
  }
}

StateDict ModelFolder::tensors() const {
  const auto lazy = lazy_tensors();
  StateDict result;
  for (const TensorOrigin& origin : files_.origins()) {
    result.insert(origin.ours.name, lazy.at(origin.ours.name).make());
  }
  return result;
}

LazyTensors ModelFolder::lazy_tensors() const {
  LazyTensors result;
  for (const TensorOrigin& origin : files_.origins()) {
    const auto type = parts_type(files_, origin.parts);
    const auto make = [this, &origin, type] {
      auto tensor = torch::empty(origin.ours.shape, type);
      copy_parts(files_, origin.parts, tensor);
      return tensor;
    };
    result[origin.ours.name] = {origin.ours.shape, type, make};
  }
  return result;
}

} // namespace moe
