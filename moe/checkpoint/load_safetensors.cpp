#include <ATen/MemoryOverlap.h>

#include <limits>
#include <tuple>
#include <unordered_set>
#include <utility>

#include "moe/checkpoint/safetensors_folder.h"
#include "moe/checkpoint/state_dict.h"
#include "moe/checkpoint/tensor_problems_internal.h"
#include "moe/error.h"
#include "moe/files/quote_internal.h"
#include "moe/libtorch.h"

namespace moe {
namespace {

// Tensors with equal keys are the same memory, seen in the same way.
using MemoryKey =
    std::tuple<const void*, std::vector<int64_t>, std::vector<int64_t>, torch::ScalarType>;

MemoryKey memory_key(const torch::Tensor& tensor) {
  return {
      tensor.const_data_ptr(),
      tensor.sizes().vec(),
      tensor.strides().vec(),
      tensor.scalar_type()};
}

// The source in the type of the target. Between floating-point types it may be rounded,
// otherwise every value must survive: a module that was moved with to(kFloat64) has turned its
// integers, too.
std::optional<torch::Tensor> converted(const torch::Tensor& source, torch::ScalarType type) {
  const auto from = source.scalar_type();
  if (from == type || (torch::isFloatingType(from) && torch::isFloatingType(type))) {
    return source;
  }
  if (torch::isComplexType(from) || torch::isComplexType(type)) {
    return std::nullopt;
  }
  const auto result = source.to(type);
  const auto is_negative = [](const torch::Tensor& values) {
    return values.to(torch::kFloat64) < 0;
  };
  const bool kept =
      result.to(from).equal(source) && is_negative(result).equal(is_negative(source));
  return kept ? std::optional(result) : std::nullopt;
}

// Finds a source for every tensor of a module and collects what is wrong; changes nothing.
class LoadPlan {
 public:
  LoadPlan(const StateDict& module, const SafetensorsFolder& file, const LoadOptions& options)
      : file_(file), options_(options) {
    for (const auto& item : module) {
      by_memory_[memory_key(item.value())].push_back(item.key());
    }
    for (const auto& item : module) {
      plan(item.key(), item.value());
    }
    for (const std::string& name : file.names()) {
      if (!used_.contains(name)) {
        report.unexpected.push_back(name);
        problems.unexpected.push_back(quote(name));
      }
    }
  }

  LoadReport report;
  TensorProblems problems;

  // [target, source]
  std::vector<std::pair<torch::Tensor, torch::Tensor>> copies;

 private:
  void plan(const std::string& name, const torch::Tensor& target) {
    const TensorEntry* entry = find(name);
    if (entry == nullptr) {
      if (!is_tied_to_found(name, target)) {
        report.missing.push_back(name);
        problems.missing.push_back(name);
      }
      return;
    }
    used_.insert(entry->name);
    const auto shape = target.sizes().vec();
    if (entry->shape != shape) {
      problems.misfits.push_back(shape_misfit(name, entry->shape, shape));
      return;
    }
    if (at::has_internal_overlap(target) == at::MemOverlap::Yes) {
      problems.misfits.push_back(name + " (an expanded view cannot be loaded)");
      return;
    }
    add_copy(name, target, *entry);
  }

  void add_copy(
      const std::string& name, const torch::Tensor& target, const TensorEntry& entry) {
    const std::string change = std::string(element_type_name(entry.type)) + " to " +
                               torch::toString(target.scalar_type());
    std::optional<torch::Tensor> source;
    if (entry.type != ElementType::f4 && entry.type != ElementType::f6_e2m3 &&
        entry.type != ElementType::f6_e3m2) {
      source = converted(
          view_tensor(entry, file_.file_of(entry.name)->owner()), target.scalar_type());
    }
    const bool same_type = source && scalar_type(entry.type) == target.scalar_type();
    if (!source || (!same_type && !options_.convert)) {
      problems.misfits.push_back(name + " (no conversion from " + change + ")");
      return;
    }
    const auto [first, is_new] = source_by_memory_.emplace(memory_key(target), *source);
    if (!is_new && target.numel() > 0 && !first->second.equal(*source)) {
      problems.misfits.push_back(name + " (tied in the module, different in the file)");
      return;
    }
    if (!same_type) {
      report.converted.push_back(name + ": " + change);
    }
    report.loaded.push_back(name);
    copies.emplace_back(target, *source);
  }

  // The tensor of this name, or the one that the metadata names for it.
  const TensorEntry* find(const std::string& name) const {
    const TensorEntry* entry = file_.find(name);
    for (const auto& file : file_.files()) {
      const auto alias = file->metadata().find(name);
      if (entry == nullptr && alias != file->metadata().end()) {
        entry = file_.find(alias->second);
      }
    }
    return entry;
  }

  bool is_tied_to_found(const std::string& name, const torch::Tensor& target) const {
    if (target.numel() == 0) {
      return false;
    }
    for (const std::string& other : by_memory_.at(memory_key(target))) {
      if (other != name && find(other) != nullptr) {
        return true;
      }
    }
    return false;
  }

  const SafetensorsFolder& file_;
  const LoadOptions& options_;
  std::map<MemoryKey, std::vector<std::string>> by_memory_;
  std::map<MemoryKey, torch::Tensor> source_by_memory_;
  std::unordered_set<std::string> used_;
};

} // namespace

void save_safetensors(
    const torch::nn::Module& module,
    const std::filesystem::path& path,
    const SaveOptions& options) {
  SaveOptions with_aliases = options;
  std::map<MemoryKey, std::string> first_name;
  StateDict unique;
  for (const auto& item : state_dict(module)) {
    const auto [first, is_new] = first_name.emplace(memory_key(item.value()), item.key());
    if (is_new || item.value().numel() == 0) {
      unique.insert(item.key(), item.value());
      continue;
    }
    check(
        with_aliases.metadata.emplace(item.key(), first->second).second,
        path.string(),
        ": metadata ",
        quote(item.key()),
        " is needed for the tied tensor of that name");
  }
  write_state_dict(unique, path, with_aliases);
}

LoadReport load_safetensors(
    torch::nn::Module& module, const std::filesystem::path& path, const LoadOptions& options) {
  const SafetensorsFolder file(path);
  LoadPlan plan(state_dict(module), file, options);
  if (!options.strict) {
    plan.problems.missing.clear();
    plan.problems.unexpected.clear();
  }
  check(
      plan.problems.none(),
      path.string(),
      ": does not fit the module: ",
      plan.problems.text(/*most=*/std::numeric_limits<size_t>::max()));
  const torch::NoGradGuard no_grad;
  for (auto& [target, source] : plan.copies) {
    target.copy_(source);
  }
  return std::move(plan.report);
}

} // namespace moe
