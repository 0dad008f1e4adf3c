#pragma once

#include <ATen/record_function.h>

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "moe/libtorch.h"

namespace moe::testing {

/// What is observed of the operations that run. LibTorch's observers are functions without
/// state, so there is one of it.
struct ObservedCalls {
  std::vector<std::string> waits;
  std::string left_out;
  int depth_left_out = 0;
};

inline ObservedCalls& observed_calls() {
  static ObservedCalls calls;
  return calls;
}

/// Whether the host waits in this operation: for a value, for the size of the result, or for a
/// copy from one device to another.
inline bool waits_for_device(const at::RecordFunction& call) {
  static const std::set<std::string> names{
      "aten::_local_scalar_dense",
      "aten::_unique2",
      "aten::bincount",
      "aten::equal",
      "aten::masked_select",
      "aten::nonzero",
      "aten::unique_dim"};
  const std::string name = call.name();
  if (name == "aten::copy_") {
    return call.inputs()[0].toTensor().device() != call.inputs()[1].toTensor().device();
  }
  return names.count(name) > 0;
}

inline std::unique_ptr<at::ObserverContext> observe_start(const at::RecordFunction& call) {
  auto& calls = observed_calls();
  if (call.name() == calls.left_out) {
    ++calls.depth_left_out;
  }
  if (calls.depth_left_out == 0 && waits_for_device(call)) {
    calls.waits.emplace_back(call.name());
  }
  return nullptr;
}

inline void observe_end(const at::RecordFunction& call, at::ObserverContext*) {
  if (call.name() == observed_calls().left_out) {
    --observed_calls().depth_left_out;
  }
}

/// The operations in `computation` that make the host wait, on whichever device it runs; on the
/// CPU those that would on another, copies excepted. What runs inside of the operation
/// `left_out` does not count.
inline std::vector<std::string> host_waits(
    const std::function<void()>& computation, const std::string& left_out = "") {
  observed_calls() = {{}, left_out, 0};
  const auto handle =
      at::addGlobalCallback(at::RecordFunctionCallback(observe_start, observe_end)
                                .needsInputs(true)
                                .scopes({at::RecordScope::FUNCTION}));
  computation();
  at::removeCallback(handle);
  return observed_calls().waits;
}

} // namespace moe::testing
