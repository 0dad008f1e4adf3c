#include "moe/checkpoint/huggingface/families_internal.h"

namespace moe {

const std::vector<const Family*>& families() {
  static const std::vector<const Family*> all{
      &kQwen3,         &kQwen3Moe,   &kLlama,
      &kMixtral,       &kMistral,    &kOlmo2,
      &kOlmoe,         &kQwen2Moe,   &kFlexOlmo,
      &kDeepseekV3,    &kDeepseekV2, &kGlm4Moe,
      &kGlm4MoeLite,   &kDots1,      &kErnie45Moe,
      &kHunyuanV1Moe,  &kMinimaxM2,  &kExaoneMoe,
      &kSolarOpen,     &kGraniteMoe, &kGraniteMoeShared,
      &kGraniteMoeSwa, &kDbrx,       &kAriaText,
      &kHyV3,          &kMistral4,   &kAxk1,
      &kGptOss,        &kLlama4Text, &kPhimoe,
      &kAfmoe,         &kCohere2Moe, &kMellum,
      &kLaguna,        &kMoeDecoder,
  };
  return all;
}

} // namespace moe
