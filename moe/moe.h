#pragma once

/// Everything of the library that works with tensors and models. See the headers for each part.

#include "moe/checkpoint/model_folder.h"
#include "moe/checkpoint/state_dict.h"
#include "moe/data/token_dataset.h"
#include "moe/data/tokenizer/tokenizer.h"
#include "moe/decoder/decoder_lm.h"
#include "moe/decoder/next_token_loss.h"
#include "moe/decoder/router_presets.h"
#include "moe/evaluation/evaluator.h"
#include "moe/evaluation/routing_statistics.h"
#include "moe/generation/generator.h"
#include "moe/layers/causal_self_attention.h"
#include "moe/layers/expert.h"
#include "moe/layers/latent_attention.h"
#include "moe/layers/rms_norm.h"
#include "moe/layers/sparse_moe_block.h"
#include "moe/layers/top_k_router.h"
#include "moe/training/adamw.h"
#include "moe/training/losses.h"
#include "moe/training/schedule.h"
#include "moe/training/trainer.h"
