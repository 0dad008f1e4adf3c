"""Compares adapters with PEFT, in both directions: compare_peft.py TENSOR_TESTS

TENSOR_TESTS is the program moe_tests. It writes a model, adapters of its experts, router and
attention in PEFT's layout, and the logits that it computes with them. PEFT must load both, leave
no adapter untouched, and give the same logits within 1e-4. Then PEFT makes random adapters for
models of transformers, and the models into which TENSOR_TESTS merges them must give the logits
of PEFT within 1e-4. Exit status 77 where transformers or peft is missing (ctest:
SKIP_RETURN_CODE).
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import warnings

try:
    import peft
    import torch
    import transformers
    from safetensors.torch import load_file
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

TOLERANCE = 1e-4
SIZES = {
    "vocab_size": 40,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "num_experts_per_tok": 2,
    "initializer_range": 0.3,
    "pad_token_id": None,
}
STACKS = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]


def qwen3_moe(expert_dim):
    return transformers.Qwen3MoeConfig(
        moe_intermediate_size=expert_dim, intermediate_size=48, num_experts=4, **SIZES
    )


def mixtral():
    return transformers.MixtralConfig(intermediate_size=24, num_local_experts=4, **SIZES)


def gpt_oss():
    return transformers.GptOssConfig(
        intermediate_size=32, num_local_experts=4, layer_types=["full_attention"] * 2, **SIZES
    )


# Configurations of models and adapters: every layout, with what changes ranks and scales.
MERGES = {
    "attention": (
        qwen3_moe(24),
        dict(target_modules=["q_proj", "k_proj", "v_proj", "o_proj"], rank_pattern={"v_proj": 5}),
    ),
    "stacks and router": (
        qwen3_moe(24),
        dict(
            target_modules=["o_proj"],
            target_parameters=[*STACKS, "mlp.gate.weight"],
            alpha_pattern={"mlp.experts.down_proj": 3, "layers.1.mlp.gate.weight": 11},
            use_rslora=True,
        ),
    ),
    "square stacks": (qwen3_moe(32), dict(target_modules=[], target_parameters=STACKS)),
    "one stack": (mixtral(), dict(target_modules=["q_proj"], target_parameters=STACKS[1:])),
    "mixtral": (mixtral(), dict(target_modules=["q_proj"], target_parameters=STACKS)),
    "gpt_oss": (gpt_oss(), dict(target_modules=["k_proj"], target_parameters=STACKS)),
}


def logits_of(model, ids):
    with torch.no_grad():
        return model.eval()(ids).logits


def run_tests(program, tag, folder):
    subprocess.run(
        [program, tag],
        env={**os.environ, "MOE_PEFT_FOLDER": str(folder)},
        stdout=sys.stderr,
        check=True,
    )


def load(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def compare_exported(program, folder):
    run_tests(program, "[.peft]", folder)
    reference = load_file(folder / "reference.safetensors")
    base = load(folder / "base")
    ids = reference["input_ids"]
    without = (logits_of(base, ids) - reference["logits"]).abs().max().item()
    adapted = peft.PeftModel.from_pretrained(base, folder / "adapter")
    difference = (logits_of(adapted, ids) - reference["logits"]).abs().max().item()
    merged = (logits_of(adapted.merge_and_unload(), ids) - reference["logits"]).abs().max().item()
    print(f"logits within {difference:.1e}, merged {merged:.1e}, without adapters {without:.1e}")
    if not (difference <= TOLERANCE and merged <= TOLERANCE and without > 100 * TOLERANCE):
        sys.exit("PEFT does not compute what we do")


def compare_merged(program, folder, name, config, changes):
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder / "base")
    ids = torch.arange(24).view(2, 12)
    without = logits_of(model, ids)
    # Random from the beginning, so that it changes the model without training.
    adapter = peft.LoraConfig(
        task_type="CAUSAL_LM", r=3, lora_alpha=2, init_lora_weights=False, **changes
    )
    adapted = peft.get_peft_model(model, adapter)
    expected = logits_of(adapted, ids)
    adapted.save_pretrained(folder / "adapter")
    run_tests(program, "[.peft-merge]", folder)
    difference = (logits_of(load(folder / "merged"), ids) - expected).abs().max().item()
    effect = (without - expected).abs().max().item()
    print(f"{name}: merged within {difference:.1e}, without adapters {effect:.1e}")
    if not (difference <= TOLERANCE and effect > 100 * TOLERANCE):
        sys.exit(f"{name}: what was merged does not compute what PEFT does")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    warnings.simplefilter("error", UserWarning)  # PEFT only warns of missing adapter keys
    transformers.logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as root:
        compare_exported(sys.argv[1], pathlib.Path(root))
    for name, (config, changes) in MERGES.items():
        with tempfile.TemporaryDirectory() as root:
            compare_merged(sys.argv[1], pathlib.Path(root), name, config, changes)


main()
