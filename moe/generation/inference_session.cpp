#include "moe/generation/inference_session.h"

#include "moe/error.h"
#include "moe/generation/module_session.h"
#include "moe/generation/packed_session.h"

namespace moe {

std::unique_ptr<InferenceSession> make_inference_session(
    const DecoderLM& model, WeightType weights) {
  const auto reason = generation_obstacle(model->options);
  check(reason.empty(), reason);
  const auto obstacle = packing_obstacle(model);
  if (obstacle.empty()) {
    return std::make_unique<PackedSession>(model, weights);
  }
  check(
      weights == WeightType::float32,
      "weights: ",
      weight_type_name(weights),
      " is not possible for this model, which has ",
      obstacle);
  return std::make_unique<ModuleSession>(model, obstacle);
}

} // namespace moe
