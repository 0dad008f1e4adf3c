#pragma once

#include <sstream>

#include "moe/libtorch.h"
#include "tests/support/catch.h"

namespace moe::testing {

/// ‖a − b‖ / ‖b‖, in float64; 0 for two empty tensors.
inline double relative_error(const torch::Tensor& actual, const torch::Tensor& expected) {
  const auto a = actual.detach().to(torch::kCPU, torch::kFloat64);
  const auto b = expected.detach().to(torch::kCPU, torch::kFloat64);
  const double scale = b.norm().item<double>();
  const double difference = (a - b).norm().item<double>();
  return scale > 0.0 ? difference / scale : difference;
}

/// Matches a tensor of the same shape whose difference is small against the norm.
class AllCloseMatcher : public MatcherBase<torch::Tensor> {
 public:
  AllCloseMatcher(torch::Tensor expected, double tolerance)
      : expected_(std::move(expected)), tolerance_(tolerance) {}

  bool match(const torch::Tensor& actual) const override {
    return actual.sizes() == expected_.sizes() &&
           relative_error(actual, expected_) <= tolerance_;
  }

  std::string describe() const override {
    std::ostringstream text;
    text << "is close (relative " << tolerance_ << ") to\n" << expected_;
    return text.str();
  }

 private:
  torch::Tensor expected_;
  double tolerance_;
};

/// Matches a tensor of the same shape and bits.
class SameBitsMatcher : public MatcherBase<torch::Tensor> {
 public:
  explicit SameBitsMatcher(torch::Tensor expected) : expected_(std::move(expected)) {}

  bool match(const torch::Tensor& actual) const override {
    return actual.scalar_type() == expected_.scalar_type() && torch::equal(actual, expected_);
  }

  std::string describe() const override {
    std::ostringstream text;
    text << "equals to the bit\n" << expected_;
    return text.str();
  }

 private:
  torch::Tensor expected_;
};

inline AllCloseMatcher AllClose(torch::Tensor expected, double tolerance = 1e-5) {
  return {std::move(expected), tolerance};
}

inline SameBitsMatcher SameBits(torch::Tensor expected) {
  return SameBitsMatcher(std::move(expected));
}

} // namespace moe::testing
