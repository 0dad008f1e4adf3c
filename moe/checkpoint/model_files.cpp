#include "moe/checkpoint/model_files.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <optional>
#include <unordered_set>
#include <utility>

#include "moe/checkpoint/mxfp4.h"
#include "moe/checkpoint/tensor_problems_internal.h"
#include "moe/error.h"
#include "moe/files/atomic_file.h"
#include "moe/files/quote_internal.h"

namespace moe {
namespace {

namespace fs = std::filesystem;

constexpr size_t kLargestConfig = 16 << 20;
constexpr size_t kMostNames = 6;
constexpr int64_t kMostExperts = 1'000'000; // in all layers

ReadConfig open_config(const fs::path& folder) {
  std::error_code ignored;
  check(
      fs::is_directory(folder, ignored),
      folder.string(),
      fs::exists(folder, ignored) ? ": is a file; expected a model folder"
                                  : ": no such folder");
  const auto path = folder / "config.json";
  check(
      fs::exists(path, ignored),
      folder.string(),
      ": holds no config.json; expected a Hugging Face model folder");
  return read_config(read_text_file(path, kLargestConfig), path.string());
}

// A configuration may name sizes that would take hours to compare with the file name by name.
// In floating point, because their product may overflow.
void check_size(const ReadConfig& config, const SafetensorsFolder& weights) {
  const DecoderOptions& options = config.options;
  const auto width = static_cast<double>(options.model_dim);
  double parameters = static_cast<double>(options.vocab_size) * width;
  int64_t experts = 0;
  for (int64_t layer = 0; layer < options.num_layers; ++layer) {
    const bool moe = is_moe_layer(options, layer);
    experts += layer_experts(options, layer);
    parameters += width * static_cast<double>(options.attention.num_heads) *
                  static_cast<double>(resolved_head_dim(options));
    parameters += width * (moe ? static_cast<double>(layer_experts(options, layer)) *
                                     static_cast<double>(options.expert_dim)
                               : static_cast<double>(options.dense_dim));
  }
  check(
      experts <= kMostExperts,
      weights.path().string(),
      ": config.json describes ",
      experts,
      " experts; at most ",
      kMostExperts,
      " are supported");
  // The smallest weights that are read take half a byte.
  check(
      parameters / 2.0 <= static_cast<double>(weights.total_bytes()),
      weights.path().string(),
      ": ",
      weights.total_bytes(),
      " bytes of weights do not hold the ",
      parameters,
      " parameters that config.json describes");
}

bool same_bytes(const TensorEntry& a, const TensorEntry& b) {
  return a.type == b.type && a.shape == b.shape &&
         std::memcmp(a.bytes.data(), b.bytes.data(), a.bytes.size()) == 0;
}

// The names under which files of this family store embedding and vocabulary head.
std::pair<std::string, std::string> embedding_names(const ReadConfig& config) {
  DecoderOptions ends = config.options;
  ends.num_layers = 0;
  ends.tie_embeddings = false;
  const auto layouts = tensor_layouts(config.family, ends, config.form);
  return {layouts.front().stored[0][0].name, layouts.back().stored[0][0].name};
}

// Tied embeddings of which the file has two different ones are kept apart.
void untie_different_embeddings(ReadConfig& config, const SafetensorsFolder& weights) {
  const auto [embedding_name, head_name] = embedding_names(config);
  const TensorEntry* embedding = weights.find(embedding_name);
  const TensorEntry* head = weights.find(head_name);
  if (config.options.tie_embeddings && embedding != nullptr && head != nullptr &&
      !same_bytes(*embedding, *head)) {
    config.options.tie_embeddings = false;
    config.notices.push_back(
        weights.path().string() +
        ": embedding and vocabulary head differ, so they are not tied, whatever config.json "
        "says");
  }
}

bool is_floating_point(ElementType type) {
  return type == ElementType::f32 || type == ElementType::bf16 || type == ElementType::f16 ||
         type == ElementType::f64;
}

// Buffers that older versions of transformers saved, and that follow from the configuration.
bool is_derived(std::string_view name) {
  return name.ends_with(".rotary_emb.inv_freq");
}

// Number of the layer in "PREFIX7.rest", or nothing.
std::optional<int64_t> layer_of(std::string_view name, std::string_view prefix) {
  if (!name.starts_with(prefix)) {
    return std::nullopt;
  }
  int64_t layer = 0;
  const char* const end = name.data() + name.size();
  const auto [rest, error] = std::from_chars(name.data() + prefix.size(), end, layer);
  return error == std::errc() && rest != end && *rest == '.' ? std::optional(layer)
                                                             : std::nullopt;
}

class OriginFinder {
 public:
  OriginFinder(const SafetensorsFolder& weights, const ReadConfig& config)
      : weights_(weights), config_(config) {}

  TensorParts find(const TensorLayout& layout) {
    const TensorParts* chosen = nullptr;
    for (const TensorParts& parts : layout.stored) {
      const bool present = std::any_of(
          parts.begin(), parts.end(), [&](const StoredTensor& part) { return is_there(part); });
      if (present && chosen != nullptr) {
        problems.unexpected.push_back(parts[0].name + " (stored in another way, too)");
        use(parts);
      } else if (present) {
        chosen = &parts;
      }
    }
    const TensorParts& parts = chosen != nullptr ? *chosen : layout.stored[0];
    check_parts(parts);
    use(parts);
    return parts;
  }

  // Tensors that nothing has asked for. Returns how many of them are of parts that this model
  // does not have, by intention.
  int64_t find_unexpected(const std::vector<std::string>& harmless) {
    int64_t left_out = 0;
    for (const std::string& name : weights_.names()) {
      if (used_.contains(name) || is_derived(name) ||
          std::find(harmless.begin(), harmless.end(), name) != harmless.end()) {
        continue;
      }
      if (is_of_another_part(name)) {
        ++left_out;
      } else {
        problems.unexpected.push_back(quote(name));
      }
    }
    return left_out;
  }

  TensorProblems problems;

 private:
  bool is_there(const StoredTensor& part) const {
    const std::string name =
        part.encoding == StoredEncoding::mxfp4 ? mxfp4_blocks(part.name) : part.name;
    return weights_.find(name) != nullptr;
  }

  // Layers that predict further tokens, and everything but the language model.
  bool is_of_another_part(const std::string& name) const {
    const FileForm& form = config_.form;
    if (!form.prefix.empty() && !name.starts_with(form.prefix)) {
      return true;
    }
    const auto layer = layer_of(name, form.prefix + "model.layers.");
    const int64_t first = config_.options.num_layers;
    return (layer && *layer >= first && *layer < first + form.extra_layers) ||
           name.starts_with("mtp.") || name.starts_with("model.mtp");
  }

  void use(const TensorParts& parts) {
    for (const StoredTensor& part : parts) {
      if (part.encoding == StoredEncoding::mxfp4) {
        used_.insert(mxfp4_blocks(part.name));
        used_.insert(mxfp4_scales(part.name));
      } else {
        used_.insert(part.name);
        if (config_.form.fp8_block[0] > 0) {
          used_.insert(fp8_scale(part.name));
        }
      }
    }
  }

  void check_parts(const TensorParts& parts) {
    for (const StoredTensor& part : parts) {
      if (part.encoding == StoredEncoding::mxfp4) {
        check_mxfp4(part);
        continue;
      }
      const TensorEntry* entry = check_entry(part.name, part.shape);
      if (entry == nullptr) {
        continue;
      }
      if (entry->type == ElementType::f8_e4m3) {
        check_fp8(part);
      } else if (!is_floating_point(entry->type)) {
        problems.misfits.push_back(
            part.name + " of type " + std::string(element_type_name(entry->type)) +
            " instead of F32, BF16, F16 or F64");
      }
    }
  }

  // The tensor if it is there in that shape.
  const TensorEntry* check_entry(const std::string& name, const std::vector<int64_t>& shape) {
    const TensorEntry* entry = weights_.find(name);
    if (entry == nullptr) {
      problems.missing.push_back(name);
    } else if (entry->shape != shape) {
      problems.misfits.push_back(shape_misfit(name, entry->shape, shape));
      return nullptr;
    }
    return entry;
  }

  void check_type(const TensorEntry* entry, ElementType type) {
    if (entry != nullptr && entry->type != type) {
      problems.misfits.push_back(
          entry->name + " of type " + std::string(element_type_name(entry->type)) +
          " instead of " + std::string(element_type_name(type)));
    }
  }

  void check_mxfp4(const StoredTensor& part) {
    auto groups = part.shape;
    if (groups.back() % kMxfp4Block != 0) {
      problems.misfits.push_back(
          part.name + " in blocks of 32, which do not divide " + std::to_string(groups.back()));
      return;
    }
    groups.back() /= kMxfp4Block;
    check_type(check_entry(mxfp4_scales(part.name), groups), ElementType::u8);
    groups.push_back(kMxfp4Block / 2);
    check_type(check_entry(mxfp4_blocks(part.name), groups), ElementType::u8);
  }

  void check_fp8(const StoredTensor& part) {
    const auto& block = config_.form.fp8_block;
    if (block[0] == 0 || part.shape.size() != 2) {
      problems.misfits.push_back(
          part.name + " of type F8_E4M3 without a quantization_config that says how");
      return;
    }
    const auto blocks = [&](size_t i) { return (part.shape[i] - 1) / block[i] + 1; };
    check_type(check_entry(fp8_scale(part.name), {blocks(0), blocks(1)}), ElementType::f32);
  }

  const SafetensorsFolder& weights_;
  const ReadConfig& config_;
  std::unordered_set<std::string> used_;
};

} // namespace

std::string mxfp4_blocks(const std::string& name) {
  return name + "_blocks";
}

std::string mxfp4_scales(const std::string& name) {
  return name + "_scales";
}

std::string fp8_scale(const std::string& name) {
  return name + "_scale_inv";
}

ModelFiles::ModelFiles(const fs::path& folder)
    : folder_(folder), config_(open_config(folder)), weights_(folder) {
  check_size(config_, weights_);
  untie_different_embeddings(config_, weights_);
  auto layouts = tensor_layouts(config_.family, config_.options, config_.form);
  std::vector<std::string> harmless;
  if (config_.options.tie_embeddings) {
    const auto [embedding, head] = embedding_names(config_);
    harmless.push_back(head);
    if (weights_.find(embedding) == nullptr) {
      layouts[0].stored[0][0].name = head; // the one matrix may have either name
    }
  }
  OriginFinder finder(weights_, config_);
  for (const TensorLayout& layout : layouts) {
    origins_.push_back({layout.ours, finder.find(layout)});
  }
  if (const int64_t left_out = finder.find_unexpected(harmless); left_out > 0) {
    config_.notices.push_back(
        weights_.path().string() + ": " + std::to_string(left_out) +
        " tensors of other parts (further predictions, images) are not used");
  }
  check(
      finder.problems.none(),
      weights_.path().string(),
      ": does not fit config.json: ",
      finder.problems.text(kMostNames));
}

const fs::path& ModelFiles::folder() const& {
  return folder_;
}

const ReadConfig& ModelFiles::config() const& {
  return config_;
}

const SafetensorsFolder& ModelFiles::weights() const& {
  return weights_;
}

const std::vector<TensorOrigin>& ModelFiles::origins() const& {
  return origins_;
}

} // namespace moe
