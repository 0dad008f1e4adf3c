#include "moe/checkpoint/model_files.h"

#include <algorithm>
#include <cstring>
#include <unordered_set>
#include <utility>

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
    experts += moe ? options.num_experts : 0;
    parameters += width * static_cast<double>(options.num_heads) *
                  static_cast<double>(resolved_head_dim(options));
    parameters += width * (moe ? static_cast<double>(options.num_experts) *
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
  check(
      parameters <= static_cast<double>(weights.total_bytes()),
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
  const auto layouts = tensor_layouts(config.family, ends);
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

class OriginFinder {
 public:
  explicit OriginFinder(const SafetensorsFolder& weights) : weights_(weights) {}

  TensorParts find(const TensorLayout& layout) {
    const TensorParts* chosen = nullptr;
    for (const TensorParts& parts : layout.stored) {
      const bool present =
          std::any_of(parts.begin(), parts.end(), [&](const StoredTensor& part) {
            return weights_.find(part.name) != nullptr;
          });
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

  void find_unexpected(const std::vector<std::string>& harmless) {
    for (const std::string& name : weights_.names()) {
      if (!used_.contains(name) && !is_derived(name) &&
          std::find(harmless.begin(), harmless.end(), name) == harmless.end()) {
        problems.unexpected.push_back(quote(name));
      }
    }
  }

  TensorProblems problems;

 private:
  void use(const TensorParts& parts) {
    for (const StoredTensor& part : parts) {
      used_.insert(part.name);
    }
  }

  void check_parts(const TensorParts& parts) {
    for (const StoredTensor& part : parts) {
      const TensorEntry* entry = weights_.find(part.name);
      if (entry == nullptr) {
        problems.missing.push_back(part.name);
      } else if (entry->shape != part.shape) {
        problems.misfits.push_back(shape_misfit(part.name, entry->shape, part.shape));
      } else if (!is_floating_point(entry->type)) {
        problems.misfits.push_back(
            part.name + " of type " + std::string(element_type_name(entry->type)) +
            " instead of F32, BF16, F16 or F64");
      }
    }
  }

  const SafetensorsFolder& weights_;
  std::unordered_set<std::string> used_;
};

} // namespace

ModelFiles::ModelFiles(const fs::path& folder)
    : folder_(folder), config_(open_config(folder)), weights_(folder) {
  check_size(config_, weights_);
  untie_different_embeddings(config_, weights_);
  auto layouts = tensor_layouts(config_.family, config_.options);
  std::vector<std::string> harmless;
  if (config_.options.tie_embeddings) {
    const auto [embedding, head] = embedding_names(config_);
    harmless.push_back(head);
    if (weights_.find(embedding) == nullptr) {
      layouts[0].stored[0][0].name = head; // the one matrix may have either name
    }
  }
  OriginFinder finder(weights_);
  for (const TensorLayout& layout : layouts) {
    origins_.push_back({layout.ours, finder.find(layout)});
  }
  finder.find_unexpected(harmless);
  check(
      finder.problems.none(),
      weights_.path().string(),
      ": does not fit config.json: ",
      finder.problems.text(kMostNames));
}

const fs::path& ModelFiles::folder() const {
  return folder_;
}

const ReadConfig& ModelFiles::config() const {
  return config_;
}

const SafetensorsFolder& ModelFiles::weights() const {
  return weights_;
}

const std::vector<TensorOrigin>& ModelFiles::origins() const {
  return origins_;
}

} // namespace moe
