#include "moe/checkpoint/model_folder.h"

#include <utility>

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
    const std::vector<NamedShape>& needed, const StateDict& present, const std::string& where) {
  TensorProblems problems;
  for (const NamedShape& tensor : needed) {
    const torch::Tensor* found = present.find(tensor.name);
    if (found == nullptr) {
      problems.missing.push_back(tensor.name);
    } else if (found->sizes() != torch::IntArrayRef(tensor.shape)) {
      problems.misfits.push_back(shape_misfit(tensor.name, found->sizes().vec(), tensor.shape));
    }
  }
  StateDict names;
  for (const NamedShape& tensor : needed) {
    names.insert(tensor.name, torch::Tensor());
  }
  for (const auto& item : present) {
    if (!names.contains(item.key())) {
      problems.unexpected.push_back(item.key());
    }
  }
  check(problems.none(), where, ": ", problems.text(kMostNames));
}

// The stored tensors of one of ours: slices of its elements, one after the other.
void add_parts(
    std::vector<TensorSource>& sources,
    const TensorParts& parts,
    const torch::Tensor& ours,
    torch::ScalarType type) {
  const auto flat = ours.detach().contiguous().view(-1);
  int64_t offset = 0;
  for (const StoredTensor& part : parts) {
    const int64_t count = c10::multiply_integers(part.shape);
    sources.push_back(
        tensor_source(part.name, flat.narrow(/*dim=*/0, offset, count).view(part.shape), type));
    offset += count;
  }
}

void write_tokenizer(
    const fs::path& folder, const DecoderOptions& options, const ModelExtras& extras) {
  write_file_atomically(folder / "tokenizer.json", extras.tokenizer_json);
  OrderedJson config;
  config["tokenizer_class"] = "PreTrainedTokenizerFast";
  if (extras.end_of_text_id) {
    config["eos_token"] = extras.end_of_text;
  }
  config["model_max_length"] = options.context_length;
  config["clean_up_tokenization_spaces"] = false;
  write_file_atomically(folder / "tokenizer_config.json", config.dump(2) + "\n");
}

torch::Tensor open_part(const SafetensorsFolder& weights, const StoredTensor& part) {
  return view_tensor(*weights.find(part.name), weights.file_of(part.name)->owner());
}

void copy_parts(
    const torch::Tensor& destination,
    const SafetensorsFolder& weights,
    const TensorParts& parts) {
  const torch::NoGradGuard no_grad;
  auto contiguous = destination.is_contiguous()
                        ? destination
                        : torch::empty_like(destination, torch::MemoryFormat::Contiguous);
  auto flat = contiguous.view(-1);
  int64_t offset = 0;
  for (const StoredTensor& part : parts) {
    const auto source = open_part(weights, part).view(-1);
    flat.narrow(/*dim=*/0, offset, source.numel()).copy_(source);
    offset += source.numel();
  }
  if (!destination.is_contiguous()) {
    destination.copy_(contiguous);
  }
}

} // namespace

std::vector<std::string> write_model_files(
    const fs::path& folder,
    const DecoderOptions& options,
    const StateDict& tensors,
    const ModelExtras& extras) {
  ConfigExtras config_extras;
  config_extras.load_balancing_weight = extras.load_balancing_weight;
  config_extras.dtype = dtype_name(extras.dtype);
  if (extras.end_of_text_id) {
    config_extras.eos_token_ids = {*extras.end_of_text_id};
  }
  const WrittenConfig config = write_config(options, config_extras);
  check_same_tensors(
      decoder_tensors(options),
      tensors,
      folder.string() + ": the tensors are not those of a DecoderLM with these options");
  std::vector<TensorSource> sources;
  for (const TensorLayout& layout : tensor_layouts(config.family, options)) {
    add_parts(sources, layout.stored[0], tensors[layout.ours.name], extras.dtype);
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

std::vector<std::string> save_model_folder(
    const fs::path& folder,
    const DecoderOptions& options,
    const StateDict& tensors,
    const ModelExtras& extras) {
  std::error_code ignored;
  check(
      !fs::exists(folder, ignored) || fs::is_empty(folder, ignored),
      folder.string(),
      ": is already there; choose a new folder or remove it first");
  AtomicFolder target(folder);
  auto notices = write_model_files(target.path(), options, tensors, extras);
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
      ours, targets, path().string() + ": the module is not a DecoderLM with these options");
  for (const TensorOrigin& origin : files_.origins()) {
    copy_parts(targets[origin.ours.name], files_.weights(), origin.parts);
  }
}

StateDict ModelFolder::tensors() const {
  StateDict result;
  for (const TensorOrigin& origin : files_.origins()) {
    auto type = scalar_type(files_.weights().find(origin.parts[0].name)->type);
    for (const StoredTensor& part : origin.parts) {
      type = torch::promoteTypes(type, scalar_type(files_.weights().find(part.name)->type));
    }
    auto tensor = torch::empty(origin.ours.shape, type);
    copy_parts(tensor, files_.weights(), origin.parts);
    result.insert(origin.ours.name, tensor);
  }
  return result;
}

} // namespace moe
