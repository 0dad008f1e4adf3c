#include "tests/support/catch.h"
#include "tests/support/cuda_device.h"
#include "tests/support/tiny_training.h"

using namespace moe;
using namespace moe::testing;

TEST_CASE("Trainer: a CUDA device follows the CPU", "[training][gpu]") {
  if (!has_cuda_device()) {
    return;
  }
  const TrainingSetup setup;
  auto model = learning_decoder();
  model.expert_dim = 16; // which the grouped path of the experts takes
  auto options = quick_options();
  options.dtype = "float32";
  auto expected = setup.trainer(model, options);
  options.device = "cuda";
  auto same = setup.trainer(model, options);
  options.dtype = "bfloat16";
  auto narrow = setup.trainer(model, options);
  for (int step = 0; step < 5; ++step) {
    CAPTURE(step);
    const double loss = expected.step().loss;
    CHECK_THAT(same.step().loss, WithinAbs(loss, 1e-3));
    CHECK_THAT(narrow.step().loss, WithinAbs(loss, 5e-2));
  }
}
