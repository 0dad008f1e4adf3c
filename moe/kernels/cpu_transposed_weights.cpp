#include "moe/kernels/cpu_transposed_weights.h"

#include <algorithm>

#include "moe/kernels/cpu_rounding.h"
#include "moe/kernels/cpu_tasks.h"
#include "moe/kernels/cpu_tensors.h"
#include "moe/kernels/cpu_transpose.h"

namespace moe::cpu {
namespace {

// The tiles of an expert with more than these share what was transposed once.
constexpr int64_t kMaxTilesThatTranspose = 5;
constexpr int64_t kRowsPerTask = 64;

std::vector<int64_t> experts_of_many_tiles(const RowTiles& plan) {
  std::vector<int64_t> experts;
  for (size_t expert = 0; expert + 1 < plan.first_of_expert.size(); ++expert) {
    const auto tiles = plan.first_of_expert[expert + 1] - plan.first_of_expert[expert];
    if (tiles > kMaxTilesThatTranspose) {
      experts.push_back(static_cast<int64_t>(expert));
    }
  }
  return experts;
}

} // namespace

template <typename Element>
TransposedWeights<Element>::TransposedWeights(const at::Tensor& weights, const RowTiles& plan)
    : weights_(weights.const_data_ptr<float>()),
      rows_(weights.size(1)),
      columns_(weights.size(2)),
      transposed_(static_cast<size_t>(weights.size(0)), nullptr) {
  const auto experts = experts_of_many_tiles(plan);
  const auto num_experts = static_cast<int64_t>(experts.size());
  storage_ =
      at::empty({num_experts, columns_, rows_}, weights.options().dtype(kTensorType<Element>));
  auto* const all = static_cast<Element*>(storage_.mutable_data_ptr());
  const auto per_expert = (columns_ + kRowsPerTask - 1) / kRowsPerTask;
  run_tasks(num_experts * per_expert, kRowsPerTask * rows_, [&](int64_t task, float* scratch) {
    const auto index = task / per_expert;
    const auto first = task % per_expert * kRowsPerTask;
    const auto count = std::min(kRowsPerTask, columns_ - first);
    Element* const place = all + (index * columns_ + first) * rows_;
    transpose_rows_of(experts[index], first, count, {place, scratch});
  });
  for (int64_t index = 0; index < num_experts; ++index) {
    transposed_[experts[index]] = all + index * columns_ * rows_;
  }
}

template <typename Element>
void TransposedWeights<Element>::transpose_rows_of(
    int64_t expert, int64_t first, int64_t count, TransposeSpace<Element> space) const {
  const float* const from = weights_ + expert * rows_ * columns_ + first;
  float* const to = place_to_compute(space.place, space.spare);
  transpose({from, columns_}, rows_, count, {to, rows_});
  put_rows(to, count * rows_, space.place);
}

template <typename Element>
const Element* TransposedWeights<Element>::rows(
    int64_t expert, int64_t first, int64_t count, TransposeSpace<Element> space) const {
  if (const Element* const transposed = transposed_[expert]) {
    return transposed + first * rows_;
  }
  transpose_rows_of(expert, first, count, space);
  return space.place;
}

template class TransposedWeights<float>;
template class TransposedWeights<uint16_t>;

} // namespace moe::cpu
