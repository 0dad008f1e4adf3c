#include "moe/editing/merge_adapter.h"

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <utility>

#include "moe/checkpoint/model_files.h"
#include "moe/checkpoint/safetensors_file.h"
#include "moe/checkpoint/tensor_parts.h"
#include "moe/editing/peft_config.h"
#include "moe/error.h"
#include "moe/files/quote_internal.h"
#include "moe/libtorch.h"

namespace moe {
namespace {

constexpr std::string_view kPeftRoot = "base_model.model.";
constexpr std::string_view kPeftA = ".lora_A.weight";
constexpr std::string_view kPeftB = ".lora_B.weight";
constexpr std::string_view kPeftBaseLayer = ".base_layer";

/// One stored tensor of a model: where its elements lie in ours.
struct StoredPlace {
  std::string name;
  std::string ours;
  TensorParts parts;
  size_t part = 0;

  const StoredTensor& stored() const {
    return parts[part];
  }
};

/// All names under which an architecture's files may have the model's matrices, by module.
class StoredMatrices {
 public:
  explicit StoredMatrices(const ReadConfig& config)
      : marked_transposed_(config.family == "gpt_oss" || config.family == "aria") {
    for (const auto& layout : tensor_layouts(config.family, config.options, config.form)) {
      for (const TensorParts& parts : layout.stored) {
        for (size_t i = 0; i < parts.size(); ++i) {
          add({parts[i].name, layout.ours.name, parts, i});
        }
      }
    }
  }

  /// Whether PEFT takes the stacks [E, in, out] of the family for such, as transformers marks
  /// them. All others it has taken for [E, out, in] since 0.19, and before for [E, in, out].
  bool marked_transposed() const {
    return marked_transposed_;
  }

  /// Those of a module, in the order in which it has them.
  std::vector<const StoredPlace*> of_module(const std::string& module) const {
    std::vector<const StoredPlace*> places;
    const auto found = by_module_.find(module);
    for (size_t i = 0; found != by_module_.end() && i < found->second.size(); ++i) {
      places.push_back(&found->second[i]);
    }
    return places;
  }

 private:
  void add(StoredPlace place) {
    const auto& stored = place.stored();
    const bool is_matrix = stored.shape.size() == 2 || stored.shape.size() == 3;
    if (!is_matrix || stored.encoding != StoredEncoding::plain ||
        !names_.insert(place.name).second) {
      return;
    }
    const auto dot = place.name.rfind('.');
    by_module_[place.name.substr(0, dot)].push_back(std::move(place));
  }

  bool marked_transposed_;
  std::set<std::string> names_;
  std::map<std::string, std::vector<StoredPlace>> by_module_;
};

/// A and B of one wrapper around a module.
struct LowRankPair {
  const TensorEntry* a = nullptr;
  const TensorEntry* b = nullptr;
};

/// By module: the wrappers around it, the outermost first.
using WrappedModules = std::map<std::string, std::map<size_t, LowRankPair>>;

bool is_real(ElementType type) {
  return type == ElementType::f32 || type == ElementType::f16 || type == ElementType::bf16 ||
         type == ElementType::f64;
}

WrappedModules wrapped_modules(const SafetensorsFile& file) {
  WrappedModules modules;
  for (const TensorEntry& tensor : file.tensors()) {
    const std::string_view name = tensor.name;
    const bool is_a = name.ends_with(kPeftA);
    check(
        name.starts_with(kPeftRoot) && (is_a || name.ends_with(kPeftB)),
        file.path().string(),
        ": ",
        quote(name),
        " is not the A or B of a matrix, which is all that can be merged");
    check(
        is_real(tensor.type) && tensor.shape.size() == 2,
        file.path().string(),
        ": ",
        quote(name),
        " is not a matrix of floating-point numbers");
    auto module = name.substr(kPeftRoot.size(), name.size() - kPeftRoot.size() - kPeftA.size());
    size_t depth = 0;
    for (; module.ends_with(kPeftBaseLayer); ++depth) {
      module.remove_suffix(kPeftBaseLayer.size());
    }
    auto& pair = modules[std::string(module)][depth];
    (is_a ? pair.a : pair.b) = &tensor;
  }
  check(!modules.empty(), file.path().string(), ": there is no adapter in it");
  return modules;
}

/// What is added to one stored tensor.
struct LowRankChange {
  StoredPlace place;
  LowRankPair pair;
  double scale = 0.0;
  bool is_transposed = false; ///< of a stack: its matrices are changed by (B · A)ᵀ
};

/// Checks shapes and the rank, and finds out how the matrices of a stack lie.
LowRankChange change_of(
    const PeftLoraConfig& config,
    const StoredPlace& place,
    const LowRankPair& pair,
    bool is_parameter,
    bool marked_transposed) {
  const auto& shape = place.stored().shape;
  const bool is_stack = shape.size() == 3;
  const int64_t experts = is_stack ? shape[0] : 1;
  const int64_t rows = shape[shape.size() - 2];
  const int64_t columns = shape.back();
  const auto dot = place.name.rfind('.');
  const auto key = is_parameter ? place.name : place.name.substr(0, dot);
  const int64_t rank = peft_rank(config, key);
  const auto& a = pair.a->shape;
  const auto& b = pair.b->shape;
  const bool fits = a[1] == columns && b[0] == rows;
  const bool fits_transposed = is_stack && a[1] == rows && b[0] == columns;
  check(
      (fits || fits_transposed) && a[0] / experts == rank && a[0] % experts == 0 &&
          b[1] == a[0],
      config.file,
      ": A ",
      shape_text(a),
      " and B ",
      shape_text(b),
      " of rank ",
      rank,
      " do not fit ",
      place.name,
      " ",
      shape_text(shape));
  check(
      !is_stack || !config.fan_in_fan_out,
      config.file,
      ": fan_in_fan_out is true, which PEFT does not have with target_parameters");
  const bool is_square = fits && fits_transposed;
  check(
      !is_square || marked_transposed || config.stacks_have_rows,
      config.file,
      ": peft_version is not 0.19 or later; before, adapters of stacks of square matrices such "
      "as ",
      place.name,
      " do not tell rows from columns");
  return {
      place, pair, peft_scale(config, key), is_square ? marked_transposed : fits_transposed};
}

/// The parameter that each wrapper of a module adapts: PEFT wraps a module once for each of
/// them, the first one innermost.
std::vector<LowRankChange> changes_of_module(
    const PeftLoraConfig& config,
    const StoredMatrices& matrices,
    const std::string& module,
    const std::map<size_t, LowRankPair>& wrappers) {
  const auto is_target = [&](const StoredPlace* place) {
    return std::any_of(
        config.target_parameters.begin(),
        config.target_parameters.end(),
        [&](const auto& name) { return peft_name_matches(place->name, name); });
  };
  auto places = matrices.of_module(module);
  const bool is_linear = places.size() == 1 && places[0]->name == module + ".weight" &&
                         places[0]->stored().shape.size() == 2;
  check(!places.empty(), config.file, ": the model has no matrix ", quote(module + ".weight"));
  const bool is_parameter = !is_linear || is_target(places[0]);
  if (!is_linear) {
    std::erase_if(places, [&](const auto* place) { return !is_target(place); });
  }
  check(
      wrappers.size() == places.size() && wrappers.rbegin()->first + 1 == wrappers.size(),
      config.file,
      ": target_parameters names ",
      places.size(),
      " parameters of ",
      module,
      ", the adapter has ",
      wrappers.size());
  std::vector<LowRankChange> changes;
  for (const auto& [depth, pair] : wrappers) {
    check(pair.a && pair.b, config.file, ": ", module, " has an A without B, or B without A");
    changes.push_back(change_of(
        config,
        *places[places.size() - 1 - depth],
        pair,
        is_parameter,
        matrices.marked_transposed()));
  }
  return changes;
}

/// B · A in the shape of the stored tensor.
torch::Tensor product_of(
    const LowRankChange& change, const std::shared_ptr<void>& owner, torch::ScalarType type) {
  auto a = view_tensor(*change.pair.a, owner).to(type); // [r, in] or [E · r, in]
  auto b = view_tensor(*change.pair.b, owner).to(type); // [out, r] or [out, r · E]
  const auto& shape = change.place.stored().shape;
  if (shape.size() == 3) {
    a = a.view({shape[0], -1, a.size(1)});                    // [E, r, in]
    b = b.view({b.size(0), -1, shape[0]}).permute({2, 0, 1}); // [E, out, r]
  }
  const auto product = torch::matmul(b, a).mul_(change.scale);
  return change.is_transposed ? product.mT() : product;
}

} // namespace

EditedModel merge_adapter(const ModelFolder& source, const std::filesystem::path& adapter) {
  const auto config = read_peft_lora_config(adapter);
  const auto file =
      std::make_shared<const SafetensorsFile>(adapter / "adapter_model.safetensors");
  const ModelFiles files(source.path());
  const StoredMatrices matrices(files.config());
  std::map<std::string, std::vector<LowRankChange>> changes; // by the name of ours
  size_t count = 0;
  for (const auto& [module, wrappers] : wrapped_modules(*file)) {
    for (auto& change : changes_of_module(config, matrices, module, wrappers)) {
      changes[change.place.ours].push_back(std::move(change));
      ++count;
    }
  }
  EditedModel result;
  result.options = source.options();
  result.tensors = source.lazy_tensors();
  result.new_experts = read_new_experts(source.path());
  for (auto& [name, of_tensor] : changes) {
    const auto add = [file, list = std::move(of_tensor)](const torch::Tensor& base) {
      const auto type =
          base.scalar_type() == torch::kFloat64 ? torch::kFloat64 : torch::kFloat32;
      const auto sum = base.to(type, /*non_blocking=*/false, /*copy=*/true);
      for (const LowRankChange& change : list) {
        const auto product = product_of(change, file->owner(), type).contiguous();
        add_part(change.place.parts, change.place.part, product, sum);
      }
      return sum.to(base.scalar_type());
    };
    replace_tensor(result.tensors, name, result.tensors.at(name).shape, add);
  }
  result.report.push_back("merged " + std::to_string(count) + " adapted matrices or stacks");
  return result;
}

} // namespace moe
