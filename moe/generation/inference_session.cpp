#include "moe/generation/inference_session.h"

#include "moe/error.h"
#include "moe/generation/module_session.h"
#include "moe/generation/packed_session.h"

namespace moe {

namespace {

void check_generation(const DecoderOptions& options) {
  const auto reason = generation_obstacle(options);
  check(reason.empty(), reason);
}

void check_modules(const std::string& obstacle, WeightType weights) {
  check(
      weights == WeightType::float32,
      "weights: ",
      weight_type_name(weights),
      " is not possible for this model, which has ",
      obstacle);
}

std::string obstacle_of(const DecoderLM& model) {
  const auto& weight = model->embedding->weight;
  return weight.is_cpu() && weight.scalar_type() == torch::kFloat32
             ? packing_obstacle(model->options)
             : "weights that are not float32 on the CPU";
}

void check_begun(size_t num_sequences) {
  TORCH_CHECK(num_sequences > 0, "InferenceSession: no sequences yet; call begin() first");
}

} // namespace

void InferenceSession::check_begin(int64_t num_sequences, int64_t capacity) {
  TORCH_CHECK(
      num_sequences >= 1 && capacity >= 1,
      "InferenceSession: begin() with ",
      num_sequences,
      " sequences of ",
      capacity,
      " tokens; at least 1 of both");
}

void InferenceSession::check_ids(std::span<const int32_t> ids) const {
  const int64_t vocab_size = options().vocab_size;
  for (const int32_t id : ids) {
    TORCH_CHECK(
        id >= 0 && id < vocab_size,
        "InferenceSession: id ",
        id,
        " is not in [0, vocab_size = ",
        vocab_size,
        ")");
  }
}

void InferenceSession::check_prefill(
    size_t num_sequences, int64_t sequence, std::span<const int32_t> ids) const {
  check_begun(num_sequences);
  TORCH_CHECK(
      sequence >= 0 && sequence < static_cast<int64_t>(num_sequences),
      "InferenceSession: sequence ",
      sequence,
      " is not in [0, ",
      num_sequences,
      "), the sequences of begin()");
  TORCH_CHECK(!ids.empty(), "InferenceSession: prefill() with no id; at least 1");
  check_ids(ids);
}

void InferenceSession::check_decode(size_t num_sequences, std::span<const int32_t> ids) const {
  check_begun(num_sequences);
  TORCH_CHECK(
      ids.size() == num_sequences,
      "InferenceSession: decode() with ",
      ids.size(),
      " ids for ",
      num_sequences,
      " sequences; 1 id of each");
  check_ids(ids);
}

std::unique_ptr<InferenceSession> make_inference_session(
    const DecoderLM& model, WeightType weights) {
  check_generation(model->options);
  const auto obstacle = obstacle_of(model);
  if (obstacle.empty()) {
    return std::make_unique<PackedSession>(model, weights);
  }
  check_modules(obstacle, weights);
  return std::make_unique<ModuleSession>(model, obstacle);
}

std::unique_ptr<InferenceSession> open_inference_session(
    const ModelFolder& folder, WeightType weights) {
  check_generation(folder.options());
  const auto obstacle = packing_obstacle(folder.options());
  if (!obstacle.empty()) {
    check_modules(obstacle, weights);
  }
  if (weights != WeightType::float32) {
    const auto tensors = folder.lazy_tensors();
    return std::make_unique<PackedSession>(pack_decoder(
        folder.options(),
        [&](const std::string& name) {
          const auto found = tensors.find(name);
          return found == tensors.end() ? torch::Tensor() : found->second.make();
        },
        weights));
  }
  DecoderLM model(folder.options());
  folder.load_into(*model);
  model->eval();
  return make_inference_session(model, weights);
}

} // namespace moe
