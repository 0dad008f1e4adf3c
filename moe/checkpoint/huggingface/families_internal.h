#pragma once

// Private to the library: not installed.

#include "moe/checkpoint/huggingface/family_internal.h"

namespace moe {

extern const Family kQwen3;
extern const Family kQwen3Moe;
extern const Family kLlama;
extern const Family kMixtral;
extern const Family kMistral;
extern const Family kOlmo2;
extern const Family kOlmoe;
extern const Family kQwen2Moe;
extern const Family kFlexOlmo;
extern const Family kDeepseekV2;
extern const Family kDeepseekV3;
extern const Family kAxk1;
extern const Family kMistral4;
extern const Family kGlm4Moe;
extern const Family kGlm4MoeLite;
extern const Family kDots1;
extern const Family kExaoneMoe;
extern const Family kSolarOpen;
extern const Family kMinimaxM2;
extern const Family kErnie45Moe;
extern const Family kHunyuanV1Moe;
extern const Family kHyV3;
extern const Family kGraniteMoe;
extern const Family kGraniteMoeShared;
extern const Family kGraniteMoeSwa;
extern const Family kDbrx;
extern const Family kAriaText;
extern const Family kGptOss;
extern const Family kLlama4Text;
extern const Family kPhimoe;
extern const Family kAfmoe;
extern const Family kCohere2Moe;
extern const Family kMellum;
extern const Family kLaguna;
extern const Family kMoeDecoder;

} // namespace moe
