#pragma once

#include <algorithm>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "moe/checkpoint/state_dict.h"
#include "moe/libtorch.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tensor_matchers.h"

namespace moe::testing {

inline std::vector<std::string> parameter_names(const torch::nn::Module& module) {
  return module.named_parameters().keys();
}

/// What LibTorch users rely on in every module: its parameters are registered under these names
/// and none twice; a clone is deep; it moves between types; weights come back from a file; and
/// it prints under its name.
template <class Holder>
void check_module_contract(
    const Holder& module, const std::vector<std::string>& names, const std::string& printed) {
  CHECK(parameter_names(*module) == names);
  std::set<void*> storages;
  for (const auto& parameter : module->parameters()) {
    CHECK(storages.insert(parameter.data_ptr()).second);
    CHECK(parameter.requires_grad());
  }
  std::ostringstream text;
  text << *module;
  CHECK_THAT(text.str(), ContainsSubstring(printed));

  using Impl = std::decay_t<decltype(*module)>;
  const auto clone = std::dynamic_pointer_cast<Impl>(module->clone());
  REQUIRE(clone);
  {
    const torch::NoGradGuard no_grad;
    for (auto& parameter : clone->parameters()) {
      parameter.add_(1.0);
    }
  }
  const auto original = module->named_parameters();
  for (const auto& item : clone->named_parameters()) {
    CHECK_THAT(item.value() - 1.0, AllClose(original[item.key()], 1e-5));
    CHECK(item.value().data_ptr() != original[item.key()].data_ptr());
  }

  const TemporaryFolder folder;
  save_safetensors(*module, folder.path() / "weights.safetensors");
  load_safetensors(*clone, folder.path() / "weights.safetensors");
  for (const auto& item : clone->named_parameters()) {
    CHECK_THAT(item.value(), SameBits(original[item.key()]));
  }

  clone->to(torch::kFloat64);
  for (const auto& parameter : clone->parameters()) {
    CHECK(parameter.scalar_type() == torch::kFloat64);
  }
}

} // namespace moe::testing
