#!/usr/bin/env python3
"""Write tiny random-weight Hugging Face checkpoints together with reference outputs.

For every decoder Mixture-of-Experts architecture that the installed transformers can run as a
plain causal language model (and a few dense ones, for upcycling) this script builds models small
enough to test with, saves them with `save_pretrained`, loads them back, and records in float32 on
the CPU what transformers computes: logits, hidden states, routing decisions, the loss, gradients
under the names used in the checkpoint file, and a greedy continuation.  An independent
implementation that reads the same checkpoint must reproduce those numbers.

    python hf_models.py --out oracles                      # everything, a few minutes
    python hf_models.py --out oracles --only mixtral olmoe # some architectures or single models
    python hf_models.py --out oracles --verify             # load again and recompute what is there

Every model gets a directory OUT/<architecture>-<variant> with

    config.json, model*.safetensors   as transformers writes them
    reference.safetensors             inputs and expected outputs
    reference.json                    versions, seed, tolerances, notes

and OUT/manifest.json lists them all.  README.md next to this script describes the files.

What makes these references safe to compare with:

* Weights are random but not tiny, norm weights scatter around one, biases are not zero, and draws
  in which a routing decision or a greedy token is nearly tied are rejected (`Draw.check`).
* A variant names the config switches it is about.  After saving, each of those is set back to the
  value of the base variant or to the class default and the logits are computed again.  The change
  is recorded as a "contrast": how far off an implementation would be that ignored the switch.  A
  switch without effect is an error.
* Gradients are moved from transformers' fused in-memory layout to the layout of the file by
  saving a copy of the model in which every weight holds its own index (`FileLayout`).  The same
  index must turn the in-memory weights into the weights found in the file, bit for bit.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import inspect
import json
import math
import re
import shutil
import sys
import tempfile
import time
import zlib
from pathlib import Path

import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file, save_file
from torch.overrides import TorchFunctionMode
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

BATCH, SEQ, PROMPT, NEW_TOKENS = 2, 24, 8, 16
SPECIAL = 3  # ids below may be padding, begin or end of text; none occurs in inputs or continuations

# ---------------------------------------------------------------------------------------------
# Tables: what to build
# ---------------------------------------------------------------------------------------------


class V:
    """One variant: a name, a line on what it guards against, config overrides and storage options.

    dtype    type the weights are stored in (the reference is always computed in float32)
    shard    max_shard_size for save_pretrained, to obtain several files and an index
    fused    keep the fused layout transformers has in memory (save_original_format=False)
    legacy   rewrite config.json the way transformers 4 wrote it (rope_theta, rope_scaling, ...)
    patch    keys to change in config.json after saving; ... removes one
    codec    store weights quantised, "mxfp4" or "fp8"
    against  value to contrast a switch with, where base value and class default would not do
    """

    def __init__(self, name, note, *, dtype="float32", shard=None, fused=False, legacy=False, patch=None, codec=None,
                 against=None, **config):
        self.name, self.note, self.config = name, note, config
        self.dtype, self.shard, self.fused = dtype, shard, fused
        self.legacy, self.patch, self.codec, self.against = legacy, patch or {}, codec, against or {}


class Arch:
    """Config values common to all variants of an architecture, and the variants."""

    def __init__(self, base, *variants):
        self.base, self.variants = base, variants


def rope(kind="default", theta=10000.0, **extra):
    return {"rope_type": kind, "rope_theta": theta, **extra}


SMALL = dict(vocab_size=128, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=64,
             bos_token_id=1, eos_token_id=2, pad_token_id=None)
GQA = dict(SMALL, num_key_value_heads=2)
MLA = dict(SMALL, num_key_value_heads=4, kv_lora_rank=16, qk_nope_head_dim=12, qk_rope_head_dim=8, v_head_dim=10)

# Config entries that are sizes, or that have no effect on a short float32 forward pass.
NO_CONTRAST = {"num_hidden_layers", "max_position_embeddings", "tie_word_embeddings"}

ARCHITECTURES: dict[str, Arch] = {
    # ---- dense models, for upcycling --------------------------------------------------------
    "llama": Arch(
        dict(GQA, intermediate_size=48),
        V("base", "plain pre-norm block, grouped-query attention, rotary halves"),
        V("bias-headdim-tied", "head_dim not hidden/heads; biases in attention and MLP; tied embeddings",
          attention_bias=True, mlp_bias=True, head_dim=16, tie_word_embeddings=True, rms_norm_eps=0.01),
        V("tie-flag-ignored", "the config claims tied embeddings, the file has both and they differ: not tied",
          patch={"tie_word_embeddings": True}),
        V("rope-linear", "linear RoPE scaling", rope_parameters=rope("linear", factor=4.0)),
        V("rope-dynamic", "dynamic NTK scaling beyond the trained length", max_position_embeddings=16,
          rope_parameters=rope("dynamic", factor=2.0)),
        V("rope-llama3", "llama3 scaling with frequencies in all three bands", head_dim=16,
          max_position_embeddings=256,
          rope_parameters=rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                               original_max_position_embeddings=64)),
        V("rope-yarn", "YaRN ramp and attention factor", head_dim=16, max_position_embeddings=128,
          rope_parameters=rope("yarn", factor=8.0, beta_fast=4.0, beta_slow=1.0,
                               original_max_position_embeddings=16)),
        V("rope-longrope", "long factors beyond the original length, short ones below", max_position_embeddings=64,
          rope_parameters=rope("longrope", factor=4.0, short_factor=[1.0, 1.1, 1.3, 1.5],
                               long_factor=[1.0, 2.0, 3.0, 5.0], original_max_position_embeddings=16)),
    ),
    "mistral": Arch(
        dict(GQA, intermediate_size=48, head_dim=16),
        V("base", "no window when sliding_window is null; head_dim not hidden/heads", sliding_window=None,
          against=dict(sliding_window=3)),
        V("window-tied", "sliding window in every layer; tied embeddings; large epsilon", sliding_window=6,
          tie_word_embeddings=True, rms_norm_eps=0.01),
        V("bf16-yarn", "bfloat16; YaRN", dtype="bfloat16", sliding_window=None, against=dict(sliding_window=3),
          rope_parameters=rope("yarn", factor=4.0, original_max_position_embeddings=16)),
    ),
    "qwen3": Arch(
        dict(GQA, intermediate_size=48, head_dim=16),
        V("base", "per-head q/k norm before RoPE, head_dim not hidden/heads"),
        V("window-tied", "sliding window in the layers from max_window_layers on; tied embeddings",
          use_sliding_window=True, sliding_window=6, max_window_layers=1, tie_word_embeddings=True,
          num_hidden_layers=3, rms_norm_eps=0.01),
        V("bias-bf16", "attention biases; weights stored as bfloat16", attention_bias=True, dtype="bfloat16"),
    ),
    "olmo2": Arch(
        dict(GQA, intermediate_size=48),
        V("base", "norms after attention and MLP instead of before; q/k norm over the whole projection"),
        V("mha-bias-tied", "as many key as query heads, attention biases, tied embeddings", num_key_value_heads=4,
          attention_bias=True, tie_word_embeddings=True, rms_norm_eps=0.01),
    ),
    # ---- softmax routers ----------------------------------------------------------------------
    "mixtral": Arch(
        dict(GQA, intermediate_size=48, num_local_experts=4, num_experts_per_tok=2),
        V("base", "softmax, top-k, renormalise; w1/w3/w2 names under block_sparse_moe; default theta 1e6"),
        V("window-headdim", "sliding window in every layer; head_dim not hidden/heads; large epsilon",
          sliding_window=6, head_dim=16, rms_norm_eps=0.05, num_hidden_layers=3),
        V("tied-sharded", "tied embeddings without lm_head in the file; several shards with an index", shard="60KB",
          tie_word_embeddings=True, num_key_value_heads=4),
        V("legacy-bf16", "config.json with rope_theta, rope_scaling and torch_dtype; bfloat16 weights",
          dtype="bfloat16", legacy=True, rope_parameters=rope("linear", theta=1e4, factor=3.0), num_local_experts=8,
          num_experts_per_tok=3),
        V("fused", "the file holds mlp.experts.gate_up_proj / down_proj stacks (save_original_format=False)",
          fused=True, num_local_experts=5),
    ),
    "olmoe": Arch(
        dict(SMALL, intermediate_size=24, num_experts=8, num_experts_per_tok=3),
        V("base",
          "weights are not renormalised; q/k norm over the whole projection; key heads default to query heads"),
        V("norm-clip-gqa", "norm_topk_prob and clip_qkv, the latter before RoPE; k_norm is narrower than q_norm",
          norm_topk_prob=True, clip_qkv=0.8, num_key_value_heads=2, rms_norm_eps=0.01),
        V("dynamic-tied-bias", "dynamic RoPE; tied embeddings; attention biases", tie_word_embeddings=True,
          attention_bias=True, max_position_embeddings=16, rope_parameters=rope("dynamic", factor=2.0)),
    ),
    "qwen2_moe": Arch(
        dict(GQA, intermediate_size=40, moe_intermediate_size=24, shared_expert_intermediate_size=32, num_experts=8,
             num_experts_per_tok=3),
        V("base", "q/k/v biases; shared expert scaled by a sigmoid gate; weights not renormalised"),
        V("norm-sparse-step",
          "norm_topk_prob; every second layer MoE; one more layer dense by mlp_only_layers; no biases",
          norm_topk_prob=True, decoder_sparse_step=2, mlp_only_layers=[3], num_hidden_layers=4, qkv_bias=False,
          rms_norm_eps=0.01),
        V("window-tied", "sliding window on alternate layers below max_window_layers; tied embeddings",
          use_sliding_window=True, sliding_window=5, max_window_layers=2, num_hidden_layers=4,
          tie_word_embeddings=True),
    ),
    "qwen3_moe": Arch(
        dict(GQA, head_dim=16, intermediate_size=40, moe_intermediate_size=24, num_experts=8, num_experts_per_tok=3,
             norm_topk_prob=True),
        V("base", "per-head q/k norm; head_dim not hidden/heads; norm_topk_prob true"),
        V("yarn-nonorm-bias", "YaRN; weights not renormalised; attention biases", norm_topk_prob=False,
          attention_bias=True, max_position_embeddings=64,
          rope_parameters=rope("yarn", theta=1e6, factor=4.0, original_max_position_embeddings=16),
          rms_norm_eps=0.01),
        V("window-tied-dense", "sliding window in all layers; tied embeddings; one dense layer",
          use_sliding_window=True, sliding_window=6, tie_word_embeddings=True, mlp_only_layers=[1],
          num_hidden_layers=3),
        V("fused-sharded-bf16", "fused stacks split over shards, bfloat16", fused=True, shard="40KB",
          dtype="bfloat16"),
        V("legacy", "config.json as transformers 4 wrote it, with YaRN under rope_scaling", legacy=True,
          max_position_embeddings=128,
          rope_parameters=rope("yarn", factor=4.0, original_max_position_embeddings=32)),
    ),
    "hunyuan_v1_moe": Arch(
        dict(GQA, head_dim=8, intermediate_size=24, num_experts=4, moe_topk=2, pad_token_id=0),
        V("base", "router linear in float32 under gate.wg; ungated shared_mlp; q/k norm after RoPE"),
        V("alpha-bias", "NTK alpha scaling labelled dynamic; attention biases; head_dim not hidden/heads",
          head_dim=16, attention_bias=True, num_experts=6, moe_topk=3,
          rope_parameters=rope("dynamic", alpha=8.0, factor=1.0), rms_norm_eps=0.01),
        V("top1-tied", "one expert per token: the weight is exactly 1; tied embeddings", moe_topk=1,
          tie_word_embeddings=True),
    ),
    "dbrx": Arch(
        dict(vocab_size=128, d_model=32, n_heads=4, n_layers=2, max_seq_len=64, rope_parameters=rope(theta=500.0),
             attn_config=dict(kv_n_heads=2, clip_qkv=8.0, rope_theta=500.0),
             ffn_config=dict(ffn_hidden_size=24, moe_num_experts=4, moe_top_k=2, moe_normalize_expert_weights=1.0,
                             ffn_act_fn={"name": "silu"})),
        V("base",
          "LayerNorm without bias; experts stacked as rows of w1, v1, w2; Wqkv in one matrix; L1 renormalisation"),
        V("clip-l2-gelu", "clip_qkv, L2 renormalisation, gelu experts",
          attn_config=dict(kv_n_heads=1, clip_qkv=0.7, rope_theta=500.0),
          ffn_config=dict(ffn_hidden_size=24, moe_num_experts=6, moe_top_k=3, moe_normalize_expert_weights=2.0,
                          ffn_act_fn={"name": "gelu"}),
          against={"attn_config": dict(kv_n_heads=1, clip_qkv=8.0, rope_theta=500.0),
                   "ffn_config": dict(ffn_hidden_size=24, moe_num_experts=6, moe_top_k=3,
                                      moe_normalize_expert_weights=1.0, ffn_act_fn={"name": "gelu"})}),
        V("nonorm", "weights not renormalised",
          ffn_config=dict(ffn_hidden_size=16, moe_num_experts=4, moe_top_k=2, moe_normalize_expert_weights=None,
                          ffn_act_fn={"name": "silu"}),
          against={"ffn_config": dict(ffn_hidden_size=16, moe_num_experts=4, moe_top_k=2,
                                      moe_normalize_expert_weights=1.0, ffn_act_fn={"name": "silu"})}),
    ),
    "flex_olmo": Arch(
        dict(GQA, intermediate_size=24, num_experts=7, num_experts_per_tok=3),
        V("base", "no input norms, norms on the branch outputs; q/k norm over the whole projection"),
        V("norm-bias-tied", "norm_topk_prob, which the norm on the branch output cancels but for its epsilon; "
          "attention biases; tied embeddings", norm_topk_prob=True, rms_norm_eps=0.05, attention_bias=True,
          tie_word_embeddings=True, num_key_value_heads=4),
    ),
    "ernie4_5_moe": Arch(
        dict(GQA, pad_token_id=0, intermediate_size=40, moe_intermediate_size=16, moe_num_experts=8, moe_k=3,
             moe_num_shared_experts=2, moe_layer_start_index=1, num_hidden_layers=3),
        V("base", "softmax plus selection bias [1,E] in moe_statics; interleaved RoPE; tied unless told otherwise"),
        V("untied-bias-interval",
          "biases in attention and dense MLPs; every second layer from the third on; no shared experts",
          tie_word_embeddings=False, use_bias=True, moe_layer_interval=2, moe_layer_start_index=2,
          num_hidden_layers=4, moe_num_shared_experts=0, rms_norm_eps=0.01),
        V("norm-min-end-index", "moe_norm_min large enough to act; dense layers after moe_layer_end_index",
          moe_norm_min=0.9, moe_k=2, moe_layer_start_index=0, moe_layer_end_index=1),
    ),
    # ---- top-k of logits, then softmax over the chosen ------------------------------------------
    "gpt_oss": Arch(
        dict(GQA, head_dim=16, intermediate_size=24, num_local_experts=4, num_experts_per_tok=2, sliding_window=5,
             max_position_embeddings=128,
             rope_parameters=rope("yarn", theta=150000.0, factor=32.0, beta_fast=32.0, beta_slow=1.0,
                                  truncate=False, original_max_position_embeddings=16)),
        V("base",
          "sinks, biases everywhere, interleaved gate and up columns, alternate sliding layers, YaRN not truncated"),
        V("full-attention-plain-rope", "no sliding layers, default RoPE, tied embeddings",
          layer_types=["full_attention", "full_attention"], rope_parameters=rope(theta=150000.0),
          tie_word_embeddings=True),
        V("clamp-nobias", "swiglu_limit small enough to clamp, other alpha, no attention biases", swiglu_limit=0.5,
          swiglu_alpha=1.2, attention_bias=False, num_local_experts=6, num_experts_per_tok=4, rms_norm_eps=0.01),
        V("bf16", "bfloat16 weights, sinks and biases", dtype="bfloat16"),
        V("mxfp4", "expert weights as 4-bit blocks and exponents, transposed with respect to the bfloat16 layout",
          dtype="bfloat16", codec="mxfp4", hidden_size=64, intermediate_size=96),
    ),
    "granitemoe": Arch(
        dict(GQA, intermediate_size=24, num_local_experts=4, num_experts_per_tok=2),
        V("base",
          "attention scale is attention_multiplier, which defaults to 1, not head_dim^-0.5; fused experts on disk"),
        V("multipliers", "all four multipliers", embedding_multiplier=3.0, attention_multiplier=0.25,
          residual_multiplier=0.6, logits_scaling=2.5, num_local_experts=6, num_experts_per_tok=3,
          rms_norm_eps=0.01),
        V("bias-linear-tied", "attention biases, linear RoPE, tied embeddings", attention_bias=True,
          attention_multiplier=0.35, tie_word_embeddings=True, rope_parameters=rope("linear", factor=2.0)),
    ),
    "granitemoeshared": Arch(
        dict(GQA, intermediate_size=24, num_local_experts=4, num_experts_per_tok=2, shared_intermediate_size=20),
        V("base", "shared_mlp with fused input_linear added to the routed output"),
        V("multipliers-bias", "all four multipliers; attention biases", embedding_multiplier=2.0,
          attention_multiplier=0.3, residual_multiplier=0.5, logits_scaling=1.5, attention_bias=True,
          rms_norm_eps=0.01),
        V("no-shared-tied", "shared_intermediate_size 0: no shared_mlp tensors; tied embeddings",
          shared_intermediate_size=0, tie_word_embeddings=True),
    ),
    "phimoe": Arch(
        dict(GQA, intermediate_size=24, num_local_experts=6, num_experts_per_tok=2),
        V("base", "sparsemixer weights, which do not sum to one; LayerNorm with bias"),
        V("jitter-window-bias",
          "router_jitter_noise widens the mask at inference too; sliding window; attention and lm_head biases",
          router_jitter_noise=0.2, sliding_window=6, attention_bias=True, lm_head_bias=True, rms_norm_eps=0.01),
        V("longrope-tied",
          "short factors at every length, but long_mscale beyond the original length; tied embeddings",
          tie_word_embeddings=True, max_position_embeddings=64,
          rope_parameters=rope("longrope", factor=4.0, short_factor=[1.0, 1.2, 1.4, 1.6],
                               long_factor=[1.0, 2.0, 4.0, 8.0], short_mscale=1.1, long_mscale=1.3,
                               original_max_position_embeddings=16)),
    ),
    "llama4_text": Arch(
        dict(GQA, head_dim=16, intermediate_size=24, intermediate_size_mlp=40, num_local_experts=4,
             num_experts_per_tok=1, num_hidden_layers=4, attention_chunk_size=8, floor_scale=4, attn_scale=0.4,
             no_rope_layer_interval=2),
        V("base",
          "sigmoid weight on the expert input; chunked attention; NoPE layers with temperature; L2-normalised q/k"),
        V("interleaved-top2", "MoE in every second layer; two experts; no q/k norm; no temperature",
          interleave_moe_layer_step=2, num_experts_per_tok=2, use_qk_norm=False, attn_temperature_tuning=False),
        V("llama3-bias", "llama3 RoPE scaling with interleaved pairs; attention biases; explicit moe_layers",
          attention_bias=True, moe_layers=[0, 3], max_position_embeddings=256, attention_chunk_size=64,
          rope_parameters=rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                               original_max_position_embeddings=64), rms_norm_eps=0.01),
        V("published", "chunks, NoPE layers and temperature of the published models", attention_chunk_size=8192,
          floor_scale=8192, no_rope_layer_interval=4, interleave_moe_layer_step=2, patch={"attn_scale": 0.1}),
    ),
    # ---- latent attention -------------------------------------------------------------------------
    "deepseek_v2": Arch(
        dict(MLA, intermediate_size=40, moe_intermediate_size=16, n_routed_experts=8, n_shared_experts=2,
             num_experts_per_tok=3, q_lora_rank=None, first_k_dense_replace=1),
        V("base",
          "latent attention without query compression; complex-pair RoPE; greedy top-k, weights as they are"),
        V("groups-qlora-scale", "groups ranked by their maximum; compressed queries; routed_scaling_factor",
          topk_method="group_limited_greedy", n_group=4, topk_group=2, q_lora_rank=20, routed_scaling_factor=2.5,
          rms_norm_eps=0.01),
        V("yarn-bias-tied",
          "YaRN with mscale and mscale_all_dim changing the softmax scale; biases; tied embeddings", q_lora_rank=20,
          attention_bias=True, tie_word_embeddings=True, max_position_embeddings=128,
          rope_parameters=rope("yarn", factor=8.0, beta_fast=32, beta_slow=1, mscale=0.707, mscale_all_dim=0.5,
                               original_max_position_embeddings=16)),
        V("yarn-one-mscale", "mscale equal to mscale_all_dim, as in the published models", q_lora_rank=20,
          max_position_embeddings=128,
          rope_parameters=rope("yarn", factor=8.0, beta_fast=32, beta_slow=1, mscale=0.707, mscale_all_dim=0.707,
                               original_max_position_embeddings=16)),
    ),
    "deepseek_v3": Arch(
        dict(MLA, intermediate_size=40, moe_intermediate_size=16, n_routed_experts=8, n_shared_experts=1,
             num_experts_per_tok=3, q_lora_rank=20, first_k_dense_replace=1, n_group=4, topk_group=2,
             num_hidden_layers=3, num_mtp_layers=0),
        V("base", "sigmoid scores; selection bias; groups by the sum of their best two; renormalise, then scale",
          against={"topk_group": 4, "routed_scaling_factor": 1.0}),
        V("noq-halves-nonorm", "no query compression; rope_interleave false; weights not renormalised; one group",
          q_lora_rank=None, rope_interleave=False, norm_topk_prob=False, n_group=1, topk_group=1,
          routed_scaling_factor=1.3, rms_norm_eps=0.01),
        V("yarn-bf16", "YaRN with mscale equal to mscale_all_dim; bfloat16 with the selection bias in float32",
          dtype="bfloat16", max_position_embeddings=640,
          rope_parameters=rope("yarn", factor=40.0, beta_fast=32, beta_slow=1, mscale=1.0, mscale_all_dim=1.0,
                               original_max_position_embeddings=16)),
        V("fp8", "linear weights as float8 with a scale for each block; edges that do not fill a block",
          dtype="bfloat16", codec="fp8"),
        V("fused-tied", "fused stacks with the selection bias beside them; tied embeddings; biases", fused=True,
          tie_word_embeddings=True, attention_bias=True),
    ),
    # ---- sigmoid routers with plain attention -----------------------------------------------------
    "glm4_moe": Arch(
        dict(GQA, head_dim=16, intermediate_size=40, moe_intermediate_size=16, n_routed_experts=8,
             num_experts_per_tok=3, first_k_dense_replace=1, num_mtp_layers=0),
        V("base", "RoPE on half of each head (partial_rotary_factor 0.5); shared experts; selection bias"),
        V("qknorm-bias-groups",
          "per-head q/k norm, q/k/v biases but none on o_proj, groups, scaling, not renormalised", use_qk_norm=True,
          attention_bias=True, n_group=2, topk_group=1, norm_topk_prob=False, routed_scaling_factor=1.5,
          rms_norm_eps=0.01),
        V("legacy-rotary-tied", "partial_rotary_factor at the top level of an old config.json; tied embeddings",
          legacy=True, tie_word_embeddings=True, rope_parameters=rope(theta=1e5, partial_rotary_factor=0.25),
          n_shared_experts=2),
    ),
    "dots1": Arch(
        dict(GQA, intermediate_size=40, moe_intermediate_size=16, n_routed_experts=8, n_shared_experts=1,
             num_experts_per_tok=3, first_k_dense_replace=1, num_hidden_layers=3),
        V("base", "per-head q/k norm, sigmoid scores with selection bias, weights not renormalised by default"),
        V("norm-groups-window", "norm_topk_prob, groups, scaling; sliding window from max_window_layers on",
          norm_topk_prob=True, n_group=2, topk_group=1, routed_scaling_factor=2.0, sliding_window=6,
          max_window_layers=1, rms_norm_eps=0.01),
        V("bias-tied", "attention biases on all four projections; tied embeddings; explicit layer_types",
          attention_bias=True, tie_word_embeddings=True, sliding_window=4, n_shared_experts=2,
          layer_types=["sliding_attention", "full_attention", "sliding_attention"]),
        V("all-heads", "as many key as query heads", num_key_value_heads=4),
    ),
    "exaone_moe": Arch(
        dict(GQA, intermediate_size=40, moe_intermediate_size=16, num_experts=8, num_experts_per_tok=3,
             num_hidden_layers=4, sliding_window=6, sliding_window_pattern=2, pad_token_id=0),
        V("base",
          "RoPE only in sliding layers; per-head q/k norm; selection bias stored as mlp.e_score_correction_bias"),
        V("groups-nonorm-tied", "groups, weights not renormalised, two shared experts, tied embeddings", n_group=4,
          topk_group=2, norm_topk_prob=False, num_shared_experts=2, tie_word_embeddings=True,
          routed_scaling_factor=1.2, rms_norm_eps=0.01),
        V("nope-headdim",
          "full attention only, hence no positions anywhere; head_dim not hidden/heads; other dense layer",
          layer_types=["full_attention"] * 3, head_dim=16, num_hidden_layers=3,
          mlp_layer_types=["sparse", "dense", "sparse"]),
    ),
    "minimax_m2": Arch(
        dict(GQA, head_dim=16, intermediate_size=24, num_local_experts=6, num_experts_per_tok=3),
        V("base",
          "sigmoid scores with a block-level selection bias; q/k norm over the whole projection; w1/w3/w2 names"),
        V("partial-rotary-tied", "RoPE on part of each head; tied embeddings", tie_word_embeddings=True,
          rope_parameters=rope(theta=5e6, partial_rotary_factor=0.5), rms_norm_eps=0.01),
        V("legacy-rotary-dim",
          "rotary_dim instead of partial_rotary_factor, as published checkpoints have it; bfloat16",
          dtype="bfloat16", legacy=True, patch={"rotary_dim": 8, "partial_rotary_factor": ...},
          rope_parameters=rope(theta=1e4, partial_rotary_factor=0.5)),
    ),
    # ---- gated delta net hybrids --------------------------------------------------------------------
    # ---- further architectures ------------------------------------------------------------------
    "aria_text": Arch(
        dict(GQA, intermediate_size=24, moe_num_experts=4, moe_topk=2, moe_num_shared_experts=2),
        V("base", "transposed fused experts stored as fc1/fc2; softmax over the chosen logits; shared experts"),
        V("bias-tied", "attention and shared-expert biases, tied embeddings", attention_bias=True, mlp_bias=True,
          tie_word_embeddings=True, moe_num_experts=6, moe_topk=3, moe_num_shared_experts=1, rms_norm_eps=0.01),
    ),
    "afmoe": Arch(
        dict(GQA, head_dim=16, intermediate_size=40, moe_intermediate_size=16, num_dense_layers=1, num_experts=8,
             num_experts_per_tok=3, num_shared_experts=1, global_attn_every_n_layers=2, sliding_window=6,
             num_hidden_layers=3),
        V("base", "norms before and after both branches; gated attention; RoPE only in sliding layers"),
        V("mup-scale-tied", "embeddings times sqrt(hidden), route_scale, biases, tied embeddings", mup_enabled=True,
          route_scale=2.4, attention_bias=True, tie_word_embeddings=True, num_shared_experts=2, rms_norm_eps=0.01),
        V("published", "every fourth layer sees all tokens; embeddings times sqrt(hidden)", mup_enabled=True,
          route_scale=2.4, global_attn_every_n_layers=4, num_hidden_layers=5),
    ),
    "axk1": Arch(
        dict(MLA, intermediate_size=40, moe_intermediate_size=16, n_routed_experts=8, num_experts_per_tok=3,
             q_lora_rank=20, n_group=4, topk_group=2, num_hidden_layers=3),
        V("base", "DeepSeek-V3 block with a norm on the MoE output, stored at the level of the layer"),
        V("nonorm-halves", "weights not renormalised; halves RoPE; other dense layer", norm_topk_prob=False,
          rope_interleave=False, mlp_layer_types=["sparse", "dense", "sparse"], rms_norm_eps=0.01),
    ),
    "cohere2_moe": Arch(
        dict(SMALL, pad_token_id=0, num_key_value_heads=2, head_dim=16, intermediate_size=24, num_experts=6,
             num_experts_per_tok=2, num_hidden_layers=4, sliding_window=6, sliding_window_pattern=2,
             logit_scale=0.25),
        V("base",
          "parallel attention and MoE after one LayerNorm; interleaved RoPE in sliding layers; logit_scale; tied"),
        V("sigmoid-shared", "sigmoid scores renormalised; shared experts averaged in; dense prefix; RMSNorm",
          expert_selection_fn="sigmoid", num_shared_experts=1, rms_norm_eps=1e-5, logit_scale=0.5,
          mlp_layer_types=["dense", "sparse", "sparse", "sparse"], prefix_dense_intermediate_size=40),
        V("sigmoid-sum-nonorm", "shared experts summed; weights not renormalised; attention biases",
          expert_selection_fn="sigmoid", norm_topk_prob=False, num_shared_experts=2, logit_scale=0.8,
          shared_expert_combination_strategy="sum", attention_bias=True, layer_norm_eps=0.01),
    ),
    "glm4_moe_lite": Arch(
        dict(MLA, intermediate_size=40, moe_intermediate_size=16, n_routed_experts=8, num_experts_per_tok=3,
             q_lora_rank=20, num_hidden_layers=3),
        V("base", "latent attention with the GLM router; first layer dense"),
        V("noq-groups", "no query compression; groups; not renormalised", q_lora_rank=None, n_group=2, topk_group=1,
          norm_topk_prob=False, mlp_layer_types=["sparse", "dense", "sparse"], rms_norm_eps=0.01),
    ),
    "granitemoe_swa": Arch(
        dict(GQA, intermediate_size=24, num_local_experts=4, num_experts_per_tok=2, sliding_window=6,
             num_hidden_layers=3),
        V("base", "every fourth layer full, the others sliding"),
        V("nope-shared", "per-layer RoPE theta with zero for none; shared MLP; multipliers",
          layer_rope_theta=[0.0, 1e4, 500.0], shared_intermediate_size=20, attention_multiplier=0.3,
          residual_multiplier=0.7, rms_norm_eps=0.01),
    ),
    "hy_v3": Arch(
        dict(GQA, head_dim=16, intermediate_size=40, moe_intermediate_size=16, num_experts=8, num_experts_per_tok=3,
             num_hidden_layers=3),
        V("base", "selection bias stored as mlp.expert_bias; router under mlp.router.gate; shared_mlp"),
        V("two-shared-tied", "two shared experts, tied embeddings, other scaling and dense layer",
          num_shared_experts=2, tie_word_embeddings=True, router_scaling_factor=1.4,
          mlp_layer_types=["sparse", "dense", "sparse"], rms_norm_eps=0.01),
    ),
    "laguna": Arch(
        dict(GQA, head_dim=16, intermediate_size=40, moe_intermediate_size=16, shared_expert_intermediate_size=24,
             num_experts=8, num_experts_per_tok=3, num_hidden_layers=3, sliding_window=6,
             layer_types=["full_attention", "sliding_attention", "sliding_attention"]),
        V("base",
          "RoPE parameters per layer type; softplus gate on attention heads; sigmoid router with selection bias"),
        V("heads-softcap-scale", "query heads per layer, soft-capped router logits, scaling",
          num_attention_heads_per_layer=[4, 6, 2], moe_router_logit_softcapping=1.5, moe_routed_scaling_factor=2.0,
          gating=False, rms_norm_eps=0.01),
    ),
    "mellum": Arch(
        dict(GQA, head_dim=16, intermediate_size=40, moe_intermediate_size=16, num_experts=8, num_experts_per_tok=3,
             num_hidden_layers=3, sliding_window=6,
             layer_types=["sliding_attention", "full_attention", "sliding_attention"]),
        V("base", "Qwen3-MoE block with RoPE theta per layer type"),
        V("nonorm-dense-bias-tied", "weights not renormalised; a dense layer; biases; tied embeddings",
          norm_topk_prob=False, mlp_layer_types=["sparse", "dense", "sparse"], attention_bias=True,
          tie_word_embeddings=True, rms_norm_eps=0.01),
    ),
    "mistral4": Arch(
        dict(MLA, pad_token_id=0, intermediate_size=40, moe_intermediate_size=16, n_routed_experts=8,
             num_experts_per_tok=3, q_lora_rank=20),
        V("base", "latent attention with the default YaRN; softmax router"),
        V("query-scaling",
          "queries grow with the logarithm of the position divided by the original length; dense first layer",
          first_k_dense_replace=1, max_position_embeddings=64,
          rope_parameters=rope("yarn", factor=8.0, original_max_position_embeddings=8, beta_fast=32.0,
                               beta_slow=1.0, mscale=1.0, mscale_all_dim=1.0, llama_4_scaling_beta=0.5)),
        V("groups-nonorm-halves", "groups, not renormalised, scaling, rope_interleave false", n_group=2,
          topk_group=1, norm_topk_prob=False, routed_scaling_factor=1.6, rope_interleave=False, rms_norm_eps=0.01),
    ),
    "solar_open": Arch(
        dict(GQA, head_dim=16, moe_intermediate_size=16, n_routed_experts=8, num_experts_per_tok=3),
        V("base", "GLM-4 router in all layers; full rotary"),
        V("yarn-groups-bias", "YaRN; groups; two shared experts; attention biases; tied embeddings", n_group=2,
          topk_group=1, n_shared_experts=2, attention_bias=True, tie_word_embeddings=True,
          routed_scaling_factor=1.7, max_position_embeddings=64,
          rope_parameters=rope("yarn", factor=4.0, original_max_position_embeddings=16), rms_norm_eps=0.01),
    ),
}

# ---------------------------------------------------------------------------------------------
# Building, saving and loading
# ---------------------------------------------------------------------------------------------

# Architectures that transformers leaves out of AutoModelForCausalLM.
EXPLICIT_CLASS = {"mistral4": "Mistral4ForCausalLM"}


def model_class(arch):
    return getattr(transformers, EXPLICIT_CLASS[arch]) if arch in EXPLICIT_CLASS else AutoModelForCausalLM


def make_config(arch, kwargs):
    return CONFIG_MAPPING[arch](**copy.deepcopy(kwargs))


def build(arch, kwargs):
    config = make_config(arch, kwargs)
    make = AutoModelForCausalLM.from_config if arch not in EXPLICIT_CLASS else model_class(arch)._from_config
    return make(config, attn_implementation="eager", experts_implementation="eager", dtype=torch.float32).eval()


def load(path, config=None, dtype=torch.float32):
    """from_pretrained with deterministic implementations; also returns the keys that did not match."""
    path = Path(path)
    arch = json.loads((path / "config.json").read_text())["model_type"]
    model, info = model_class(arch).from_pretrained(
        path, config=config, dtype=dtype, attn_implementation="eager", experts_implementation="eager",
        output_loading_info=True,
    )
    return model.eval(), {key: sorted(value) for key, value in info.items() if value}


def load_checkpoint(path, config=None):
    """Load in float32; quantised weights are expanded here, independently of transformers."""
    if not is_quantised(path):
        return load(path, config)
    with tempfile.TemporaryDirectory() as scratch:
        plain = json.loads((path / "config.json").read_text())
        plain.pop("quantization_config")
        (Path(scratch) / "config.json").write_text(json.dumps(plain))
        save_file(checkpoint_tensors(path), Path(scratch) / "model.safetensors", metadata={"format": "pt"})
        return load(scratch, config)


def is_quantised(path):
    return "quantization_config" in json.loads((path / "config.json").read_text())


def checkpoint_tensors(path):
    """All tensors of a checkpoint by name, expanded if they are quantised."""
    tensors = {}
    for file in sorted(path.glob("model*.safetensors")):
        tensors.update(load_file(file))
    return dequantise(tensors)


def save(model, variant, path):
    options = {"save_original_format": not variant.fused}
    if variant.shard:
        options["max_shard_size"] = variant.shard
    if variant.dtype == "float32":
        model.save_pretrained(path, **options)
    else:  # load in that type first, so that transformers decides which tensors stay in float32
        with tempfile.TemporaryDirectory() as scratch:
            model.save_pretrained(scratch)
            load(scratch, dtype=getattr(torch, variant.dtype))[0].save_pretrained(path, **options)
    config = json.loads((path / "config.json").read_text())
    if variant.codec:
        tensors, config["quantization_config"] = CODECS[variant.codec](checkpoint_tensors(path))
        save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    if variant.legacy:
        config = legacy_config(config)
    if variant.codec or variant.legacy or variant.patch:
        config = {key: value for key, value in {**config, **variant.patch}.items() if value is not ...}
        (path / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def legacy_config(config):
    """The keys that transformers 4 wrote and that most published checkpoints have."""
    config = dict(config)
    config["torch_dtype"] = config.pop("dtype")
    config["transformers_version"] = "4.46.0"
    scaling = dict(config.pop("rope_parameters"))
    config["rope_theta"] = scaling.pop("rope_theta")
    if "partial_rotary_factor" in scaling:
        config["partial_rotary_factor"] = scaling.pop("partial_rotary_factor")
    scaling["type"] = scaling.pop("rope_type")
    config["rope_scaling"] = None if scaling["type"] == "default" else scaling
    return config


# ---------------------------------------------------------------------------------------------
# Quantised storage
# ---------------------------------------------------------------------------------------------

FP4_VALUES = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])
FP8_BLOCK = 16


def to_mxfp4(tensors):
    """gpt-oss experts as 4-bit floats: groups of 32 along the input share a power-of-two scale."""
    result = {}
    for name, weight in tensors.items():
        if not re.search(r"experts\.(gate_up|down)_proj$", name):
            result[name] = weight
            continue
        groups = weight.float().transpose(1, 2).unflatten(-1, (-1, 32))  # [E, out, in/32, 32]
        exponent = (groups.abs().amax(-1) / 6).log2().ceil()
        codes = (groups / exponent.exp2().unsqueeze(-1)).unsqueeze(-1).sub(FP4_VALUES).abs().argmin(-1)
        result[f"{name}_blocks"] = (codes[..., 0::2] | codes[..., 1::2] << 4).to(torch.uint8).contiguous()
        result[f"{name}_scales"] = (exponent + 127).to(torch.uint8).contiguous()
    keep = ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]
    return result, {"quant_method": "mxfp4", "modules_to_not_convert": keep}


def to_fp8(tensors):
    """Linear weights as float8 with one float32 scale for each block, the last one possibly cut off."""
    result = {}
    for name, weight in tensors.items():
        result[name] = weight
        if re.search(r"_proj(_with_mqa)?\.weight$", name):
            rows, columns = weight.shape
            padded = F.pad(weight.float(), (0, -columns % FP8_BLOCK, 0, -rows % FP8_BLOCK))
            blocks = padded.unflatten(1, (-1, FP8_BLOCK)).unflatten(0, (-1, FP8_BLOCK))
            scale = blocks.abs().amax((1, 3)) / torch.finfo(torch.float8_e4m3fn).max
            result[f"{name}_scale_inv"] = scale
            result[name] = (weight.float() / spread(scale, weight.shape)).to(torch.float8_e4m3fn)
    return result, {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
                    "weight_block_size": [FP8_BLOCK, FP8_BLOCK]}


def spread(scale, shape):
    """Repeat the scale of every block over its elements."""
    return scale.repeat_interleave(FP8_BLOCK, 0).repeat_interleave(FP8_BLOCK, 1)[: shape[0], : shape[1]]


def dequantise(tensors):
    result = {}
    for name, value in tensors.items():
        if name.endswith("_blocks"):
            scales = tensors[name.removesuffix("_blocks") + "_scales"].int() - 127
            codes = torch.stack([value & 15, value >> 4], -1).flatten(-2).long()  # low nibble first
            weight = FP4_VALUES[codes] * scales.float().exp2().unsqueeze(-1)
            result[name.removesuffix("_blocks")] = weight.flatten(-2).transpose(1, 2).contiguous()
        elif name + "_scale_inv" in tensors:
            result[name] = value.float() * spread(tensors[name + "_scale_inv"], value.shape)
        elif not name.endswith(("_scales", "_scale_inv")):
            result[name] = value
    return result


CODECS = {"mxfp4": to_mxfp4, "fp8": to_fp8}

# ---------------------------------------------------------------------------------------------
# Random weights
# ---------------------------------------------------------------------------------------------

ROUTER = re.compile(r"(router|gate|gating)(\.layer|\.wg|\.gate|\.classifier|\.proj)?\.weight$")
KEEP_INIT = re.compile(r"(A_log|dt_bias|\.D)$")
FINAL_NORM = re.compile(r"(model|transformer)\.(norm|norm_f|final_layernorm|embedding_norm)")


def draw_weights(model, generator, embedding_std):
    """Matrices N(0, 0.15), routers wider; vectors scatter around what the class initialises them to."""

    def noise(tensor, std):
        return torch.randn(tensor.shape, generator=generator) * std

    tied = getattr(model.config, "tie_word_embeddings", False)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim < 2 or KEEP_INIT.search(name):
                neutral = 2 * (parameter == 0)  # of norms that multiply by 1 + weight
                parameter.add_(noise(parameter, 1.0 if name.endswith("sinks") else 0.2))
                if tied and FINAL_NORM.fullmatch(name.removesuffix(".weight")):
                    # otherwise a model with tied embeddings likes to repeat the last token
                    flip = torch.rand(parameter.shape, generator=generator) < 0.5
                    parameter.copy_(torch.where(flip, -parameter - neutral, parameter))
            elif ROUTER.search(name):
                parameter.copy_(noise(parameter, 0.3))
            elif re.search(r"embed|wte|lm_head", name):
                parameter.copy_(noise(parameter, embedding_std))
            else:
                parameter.copy_(noise(parameter, 0.15))
        for name, buffer in persistent_buffers(model):
            if name.endswith("tid2eid"):  # table of hash routing: distinct experts for each token id
                experts = torch.rand(buffer.shape[0], model.config.n_routed_experts, generator=generator).argsort(-1)
                buffer.copy_(experts[:, : buffer.shape[1]])
            elif re.search(r"bias|layer_scalar", name):
                buffer.add_(noise(buffer, 0.2))
    return model


def persistent_buffers(model):
    saved = model.state_dict()
    return [(name, buffer) for name, buffer in model.named_buffers() if name in saved]


class TopkGaps(TorchFunctionMode):
    """Record, over all torch.topk, the smallest distance between a value kept and one left out."""

    def __init__(self):
        self.smallest = math.inf

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") == "topk":
            values, k = args[0], args[1] if len(args) > 1 else kwargs["k"]
            if k < values.shape[-1]:
                ordered = values.detach().float().sort(dim=-1, descending=True).values
                kept, left_out = ordered[..., k - 1], ordered[..., k]
                gap = (kept - left_out)[torch.isfinite(kept) & (kept > -1e30)]  # masked entries do not count
                if gap.numel():
                    self.smallest = min(self.smallest, gap.min().item())
        return func(*args, **kwargs)


@torch.no_grad()
def greedy(model, ids):
    """Greedy continuation with the cache: the new ids, and the smallest lead of a chosen token."""
    model.generation_config.eos_token_id = None
    out = model.generate(
        ids[:, :PROMPT], attention_mask=torch.ones_like(ids[:, :PROMPT]), max_new_tokens=NEW_TOKENS, do_sample=False,
        use_cache=True, pad_token_id=0, return_dict_in_generate=True, output_scores=True,
    )
    best = torch.stack(out.scores).topk(2, dim=-1).values
    return out.sequences[:, PROMPT:].contiguous(), (best[..., 0] - best[..., 1]).min().item()


@torch.no_grad()
def greedy_without_cache(model, ids):
    ids = ids[:, :PROMPT]
    for _ in range(NEW_TOKENS):
        ids = torch.cat([ids, model(input_ids=ids, use_cache=False).logits[:, -1].argmax(-1, keepdim=True)], dim=1)
    return ids[:, PROMPT:].contiguous()


@dataclasses.dataclass
class Draw:
    """A stored model with its inputs, and how far it is from any near-tie."""

    model: torch.nn.Module
    ids: torch.Tensor
    seed: int
    routing_gap: float = math.inf
    greedy_gap: float = 0.0
    sensitivity: float = math.inf

    @torch.no_grad()
    def check(self, generator):
        """True if rounding differences cannot change a decision, and the outputs are not degenerate."""
        with TopkGaps() as gaps:
            logits = self.model(input_ids=self.ids, use_cache=False).logits
        self.routing_gap = gaps.smallest
        if not torch.isfinite(logits).all() or logits.std(-1).min() < 0.1 or self.routing_gap < 2e-4:
            return False
        tokens, self.greedy_gap = greedy(self.model, self.ids)
        if self.greedy_gap < 2e-3 or tokens.min() < SPECIAL or min(row.unique().numel() for row in tokens) < 3:
            return False
        noisy = copy.deepcopy(self.model)
        for parameter in noisy.parameters():
            parameter.mul_(1 + 1e-6 * torch.randn(parameter.shape, generator=generator))
        self.sensitivity = (noisy(input_ids=self.ids, use_cache=False).logits - logits).abs().max().item()
        return self.sensitivity < 3e-4 and torch.equal(greedy(noisy, self.ids)[0], tokens)


def draw(arch, variant, kwargs, base_seed, path, attempts=100):
    """Draw weights and inputs until they pass the check; leaves the checkpoint in `path`."""
    for attempt in range(attempts):
        seed = zlib.crc32(f"{base_seed}/{arch}/{variant.name}/{attempt}".encode())
        generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        model = draw_weights(build(arch, kwargs), generator, embedding_std=(0.4, 0.25, 0.15)[attempt % 3])
        save(model, variant, path)
        stored, left = load_checkpoint(path)
        if left:
            raise RuntimeError(f"reloading leaves {left}")
        vocabulary = kwargs.get("unpadded_vocab_size", kwargs["vocab_size"])
        ids = torch.randint(SPECIAL, vocabulary, (BATCH, SEQ), generator=generator)
        drawn = Draw(stored, ids, seed)
        if drawn.check(generator):
            if variant.legacy or variant.patch:  # the rewritten config.json must mean the same
                model, _ = load_checkpoint(path, model.config)
            with torch.no_grad():
                change = model(input_ids=ids, use_cache=False).logits - stored(input_ids=ids, use_cache=False).logits
            if variant.dtype == "float32" or variant.legacy or variant.patch:
                if change.abs().max() > 1e-6:
                    raise RuntimeError("the reloaded model differs from the saved one")
            return drawn
    raise RuntimeError(f"each of {attempts} draws is degenerate or close to a tie; the last: {drawn.routing_gap:.1e} "
                       f"routing, {drawn.greedy_gap:.1e} greedy, {drawn.sensitivity:.1e} sensitivity")


# ---------------------------------------------------------------------------------------------
# Reference outputs
# ---------------------------------------------------------------------------------------------


class FileLayout:
    """Where each element of each tensor in a checkpoint lives among the parameters of the model."""

    def __init__(self, model, fused):
        probe = copy.deepcopy(model)
        with torch.no_grad():
            start = 0
            for parameter in probe.parameters():
                parameter.copy_(torch.arange(start, start + parameter.numel()).view(parameter.shape))
                start += parameter.numel()
            for _, buffer in persistent_buffers(probe):
                buffer.fill_(-1)
        assert start < 2**24, "indices must be exact in float32"
        with tempfile.TemporaryDirectory() as scratch:
            probe.save_pretrained(scratch, save_original_format=not fused)
            written = checkpoint_tensors(Path(scratch))
        self.index = {name: t.long() for name, t in written.items() if t.is_floating_point() and (t >= 0).all()}

    def apply(self, tensors):
        """Rearrange tensors given in the order of model.parameters() into the layout of the file."""
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        return {name: flat[index] for name, index in self.index.items()}

    def verify(self, model, path):
        """The mapping must reproduce the weights of the file exactly."""
        stored = checkpoint_tensors(path)
        for name, values in self.apply([p.detach() for p in model.parameters()]).items():
            if not torch.equal(values, stored[name].float()):
                raise RuntimeError(f"cannot trace {name} back to a parameter")


class RoutingRecorder:
    """Hooks that collect router logits, chosen experts and their weights for every MoE layer."""

    def __init__(self, model):
        self.found, self.handles = {}, []
        routers = self.router_classes(model)
        for name, module in model.named_modules():
            if type(module) in routers:
                hook = self.on_router(name, module, routers[type(module)])
                self.handles.append(module.register_forward_hook(hook))
            elif type(module).__name__.endswith("Experts"):
                signature = inspect.signature(type(module).forward)
                if {"top_k_index", "router_indices", "topk_indices"} & set(signature.parameters):
                    hook = self.on_experts(name, signature)
                    self.handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))

    @staticmethod
    def router_classes(model):
        """Classes whose output holds router logits, with the position of the logits in that output."""
        specs = []
        for module in model.modules():
            spec = getattr(module, "_can_record_outputs", None)
            spec = spec.get("router_logits") if isinstance(spec, dict) else None
            specs += spec if isinstance(spec, list) else [spec] if spec is not None else []
        return {spec.target_class: spec.index for spec in specs if not spec.target_class.__name__.endswith("Attention")}

    def entry(self, name):
        kind = "attention_router" if ".self_attention." in name else "router"
        return self.found.setdefault(f"{kind}.{re.search(r'[.]([0-9]+)[.]', name).group(1)}", {})

    def on_router(self, name, module, index):
        def hook(_, inputs, output):
            logits = output[index] if isinstance(output, tuple) else output
            entry = self.entry(name)
            entry["logits"] = logits
            if type(module).__name__ == "Llama4Router":  # the weight multiplies the input of the expert
                entry["expert_weights"], entry["expert_ids"] = logits.topk(module.top_k, dim=-1)
                entry["expert_weights"] = entry["expert_weights"].sigmoid()
            elif type(module).__name__ == "JetMoeTopKGating":
                entry["expert_weights"], entry["expert_ids"] = logits.topk(module.top_k, dim=-1)
                entry["expert_weights"] = entry["expert_weights"].softmax(-1)

        return hook

    def on_experts(self, name, signature):
        def hook(module, args, kwargs):
            given = signature.bind(module, *args, **kwargs).arguments
            entry = self.entry(name)
            for key, names in {"expert_ids": ("top_k_index", "router_indices", "topk_indices"),
                               "expert_weights": ("top_k_weights", "routing_weights", "topk_weights")}.items():
                entry[key] = next(given[n] for n in names if n in given)

        return hook

    def tensors(self, batch, seq):
        """Per layer and token; chosen experts sorted by id, because their order carries no meaning."""
        result = {}
        for layer, entry in self.found.items():
            if "expert_ids" in entry:
                order = entry["expert_ids"].argsort(dim=-1)
                entry["expert_ids"] = entry["expert_ids"].gather(-1, order)
                entry["expert_weights"] = entry["expert_weights"].gather(-1, order)
            for key, value in entry.items():
                value = value.long() if key == "expert_ids" else value.float()
                result[f"{layer}.{key}"] = value.reshape(batch, seq, -1).contiguous()
        return result

    def remove(self):
        for handle in self.handles:
            handle.remove()


def causal_loss(logits, ids):
    """Mean cross-entropy of predicting each token from those before it."""
    return F.cross_entropy(logits[:, :-1].float().flatten(0, 1), ids[:, 1:].flatten())


@torch.no_grad()
def reference_outputs(model, ids):
    """Everything but gradients, as a dict of tensors, and notes."""
    notes, tensors, normed = [], {"input_ids": ids}, []
    recorder = RoutingRecorder(model)
    for name, module in model.named_modules():
        if FINAL_NORM.fullmatch(name):
            recorder.handles.append(module.register_forward_hook(lambda m, i, output: normed.append(output)))
    out = model(input_ids=ids, output_hidden_states=True, use_cache=False)
    recorder.remove()
    tensors["logits"] = out.logits.float()
    tensors["loss"] = causal_loss(out.logits, ids)
    for i, hidden in enumerate(out.hidden_states or ()):
        tensors[f"hidden_states.{i}"] = hidden.float()
    if not normed or not out.hidden_states or not torch.equal(normed[-1], out.hidden_states[-1]):
        notes.append("the last hidden state is not the output of the final norm")
    tensors.update(recorder.tensors(*ids.shape))
    try:
        out = model(input_ids=ids, output_router_logits=True, use_cache=False)
        if isinstance(getattr(out, "aux_loss", None), torch.Tensor):
            tensors["aux_loss"] = out.aux_loss.float()
    except Exception as error:
        notes.append(f"output_router_logits=True fails with {type(error).__name__}")
    tensors["greedy_ids"], _ = greedy(model, ids)
    no_cache = greedy_without_cache(model, ids)
    if not torch.equal(no_cache, tensors["greedy_ids"]):
        tensors["greedy_ids_no_cache"] = no_cache
        notes.append("generation with the cache differs from recomputing every step without it")
    return tensors, notes


def reference_gradients(model, ids, layout):
    """Gradients of the loss in the layout of the file, one tensor of each kind, and their total norm."""
    model.zero_grad(set_to_none=True)
    with torch.enable_grad():
        causal_loss(model(input_ids=ids, use_cache=False).logits, ids).backward()
    gradients = layout.apply([torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()])
    total = math.sqrt(sum(g.double().square().sum().item() for g in gradients.values()))
    chosen = {}
    for name, gradient in gradients.items():
        kind = re.sub(r"(?<=\.)\d+(?=\.)", "*", name)  # the same tensor of any layer and expert
        if gradient.norm() > 1e-5 * total:  # less is rounding noise
            if kind not in chosen or gradient.norm() > gradients[chosen[kind]].norm():
                chosen[kind] = name
    return {name: gradients[name] for name in sorted(chosen.values())}, total


@torch.no_grad()
def other_experts_implementation(model, ids, logits):
    """Largest difference of the logits when transformers batches the experts, or why there is none."""
    if not model._can_set_experts_implementation():
        return "the class has a single implementation"
    try:
        model.set_experts_implementation("batched_mm")
        return (model(input_ids=ids, use_cache=False).logits - logits).abs().max().item()
    except Exception as error:
        return f"{type(error).__name__}: {error}".splitlines()[0]
    finally:
        model.set_experts_implementation("eager")


@torch.no_grad()
def contrasts(arch, base, variant, kwargs, path, ids, logits):
    """How much the logits change when a switch of this variant is ignored."""
    defaults = {f.name: f.default for f in dataclasses.fields(CONFIG_MAPPING[arch])}
    result = {}
    for key in {**variant.config, **variant.against}:
        if key in variant.against:
            other = variant.against[key]
        elif key in NO_CONTRAST:
            continue
        else:
            other = base.get(key, defaults.get(key, dataclasses.MISSING))
        if other is dataclasses.MISSING or other == kwargs.get(key, "absent"):
            continue
        try:
            model, left = load_checkpoint(path, make_config(arch, {**kwargs, key: other}))
            change = (model(input_ids=ids, use_cache=False).logits - logits).abs().max().item()
        except Exception:  # other shapes, or not a valid model: such a mistake cannot go unnoticed
            continue
        if left.get("missing_keys") or left.get("mismatched_keys"):
            continue
        if change < 1e-2:
            raise RuntimeError(f"setting {key} to {other} changes the logits by {change:.1e} only")
        result[f"{key}={json.dumps(other)}"] = float(f"{change:.3g}")
    return result


# ---------------------------------------------------------------------------------------------
# One model, all models
# ---------------------------------------------------------------------------------------------


def generate(arch, base, variant, path, base_seed):
    kwargs = {**base, **variant.config}
    drawn = draw(arch, variant, kwargs, base_seed, path)
    model, ids = drawn.model, drawn.ids
    tensors, notes = reference_outputs(model, ids)
    layout = FileLayout(model, variant.fused)
    layout.verify(model, path)
    gradients, gradient_norm = reference_gradients(model, ids, layout)
    contrast = contrasts(arch, base, variant, kwargs, path, ids, tensors["logits"])
    batched = other_experts_implementation(model, ids, tensors["logits"])
    if isinstance(batched, float) and batched > 1e-5:
        notes.append(f"batched_mm experts differ from eager ones by {batched:.1e}")
    if variant.codec:
        notes.append("gradients are those of the expanded weights, under their unquantised names")
    if variant.codec == "mxfp4":
        check_mxfp4(path, ids, tensors["logits"])

    tensors.update({f"grad.{name}": gradient for name, gradient in gradients.items()})
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path / "reference.safetensors",
              metadata={"format": "pt"})
    closeness = {"atol": max(1e-4, float(f"{2 * drawn.sensitivity:.1e}")), "rtol": 1e-4}
    info = {
        "architecture": arch,
        "variant": variant.name,
        "guards": variant.note,
        "class": type(model).__name__,
        "transformers": transformers.__version__,
        "torch": torch.__version__,
        "seed": drawn.seed,
        "stored_dtype": variant.codec or variant.dtype,
        "reference_dtype": "float32",
        "attention": "eager",
        "experts": "eager",
        "files": sorted(f.name for f in path.glob("model*")),
        "fused_layout": variant.fused,
        "tolerance": {
            "logits": closeness, "hidden_states": closeness, "router": closeness,
            "loss": {"atol": 1e-5, "rtol": 1e-5},
            "grad": {"atol_times_max": 1e-3, "rtol": 1e-3},
            "ids": "exact",
        },
        "gradients": list(gradients),
        "gradient_norm": gradient_norm,
        "smallest_routing_gap": None if math.isinf(drawn.routing_gap) else drawn.routing_gap,
        "smallest_greedy_gap": drawn.greedy_gap,
        "logit_change_from_1e-6_weight_noise": drawn.sensitivity,
        "batched_experts_difference": batched,
        "contrasts": contrast,
        "notes": notes,
    }
    (path / "reference.json").write_text(json.dumps(info, indent=2) + "\n")
    return info


@torch.no_grad()
def check_mxfp4(path, ids, logits):
    """transformers' own expansion of the 4-bit weights must agree with ours."""
    config = transformers.Mxfp4Config(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager",
                                                 experts_implementation="eager", quantization_config=config).eval()
    if (model(input_ids=ids, use_cache=False).logits - logits).abs().max() > 1e-6:
        raise RuntimeError("transformers expands the 4-bit weights differently")


def verify(path):
    """Load a checkpoint again and recompute its reference; returns a list of complaints."""
    expected = load_file(path / "reference.safetensors")
    info = json.loads((path / "reference.json").read_text())
    model, left = load_checkpoint(path)
    complaints = [f"left over: {left}"] if left else []
    actual, _ = reference_outputs(model, expected["input_ids"])
    layout = FileLayout(model, info["fused_layout"])
    layout.verify(model, path)
    gradients, _ = reference_gradients(model, expected["input_ids"], layout)
    actual.update({f"grad.{name}": gradient for name, gradient in gradients.items()})
    for name in sorted(set(actual) | set(expected)):
        if name not in actual or name not in expected or actual[name].shape != expected[name].shape:
            complaints.append(f"{name}: only on one side, or of another shape")
        elif actual[name].dtype == torch.int64:
            if not torch.equal(actual[name], expected[name]):
                complaints.append(f"{name}: differs")
        else:
            scale = expected[name].abs().max() if name.startswith("grad.") else 1.0
            off = (actual[name] - expected[name]).abs().max() / scale
            if not off < 1e-4:
                complaints.append(f"{name}: off by {off:.1e}")
    return complaints


def write_manifest(out):
    keys = ("architecture", "variant", "guards", "class", "stored_dtype", "seed", "files", "notes")
    models = []
    for file in sorted(out.glob("*/reference.json")):
        info = json.loads(file.read_text())
        models.append({"path": file.parent.name, **{key: info[key] for key in keys}})
    summary = {"transformers": transformers.__version__, "torch": torch.__version__, "models": models}
    (out / "manifest.json").write_text(json.dumps(summary, indent=2) + "\n")


def main(table=None, description=__doc__, seed=0):
    table = ARCHITECTURES if table is None else table
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="directory to write to")
    parser.add_argument("--seed", type=int, default=seed, help=f"base seed (default {seed})")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="architectures, or models such as mixtral-base")
    parser.add_argument("--verify", action="store_true", help="recompute the references found under --out")
    parser.add_argument("--list", action="store_true", help="print the table of models and stop")
    options = parser.parse_args()
    chosen = [(arch, spec.base, variant) for arch, spec in table.items() for variant in spec.variants
              if not options.only or {arch, f"{arch}-{variant.name}"} & set(options.only)]
    if options.list:
        for arch, _, variant in chosen:
            print(f"| `{arch}-{variant.name}` | {variant.note} |")
        return 0
    if options.out is None or not chosen:
        parser.error("--out is required" if chosen else "no model of that name")

    torch.set_num_threads(1)  # also makes sums reproducible
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    failures, started = [], time.time()
    for arch, base, variant in chosen:
        name, began = f"{arch}-{variant.name}", time.time()
        try:
            if options.verify:
                complaints = verify(options.out / name)
                failures += [name] if complaints else []
                report = "; ".join(complaints) or "ok"
            else:
                info = generate(arch, base, variant, options.out / name, options.seed)
                report = "; ".join([f"{len(info['contrasts'])} contrasts", *info["notes"]])
        except Exception as error:
            failures.append(name)
            report = f"FAILED {type(error).__name__}: {error}".splitlines()[0]
            if not options.verify:
                shutil.rmtree(options.out / name, ignore_errors=True)
        print(f"{name:42} {time.time() - began:5.1f} s  {report}", flush=True)
    if not options.verify:
        write_manifest(options.out)
    print(f"{len(chosen) - len(failures)} of {len(chosen)} models, {time.time() - started:.0f} s")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
