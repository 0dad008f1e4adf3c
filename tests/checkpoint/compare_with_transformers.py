"""Compares our models with transformers: compare_with_transformers.py TENSOR_TESTS

TENSOR_TESTS is the program moe_tests. It writes models of ours with ids and logits, and logits of
models that transformers saved here. AutoModelForCausalLM must open every folder and give the same
logits within 1e-4. Exit status 77 where transformers is missing (ctest: SKIP_RETURN_CODE).

    compare_with_transformers.py --folder FOLDER REFERENCE.safetensors

compares one model folder; the file holds input_ids [B, S] and logits [B, S, V].
"""

import os
import pathlib
import subprocess
import sys
import tempfile

try:
    import torch
    import transformers
    from safetensors.torch import load_file
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

TOLERANCE = 1e-4
SMALL = dict(
    vocab_size=29, hidden_size=16, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
    head_dim=6, max_position_embeddings=64, intermediate_size=20, initializer_range=0.3,
    bos_token_id=None, eos_token_id=2)
EXPERTS = dict(moe_intermediate_size=12, num_experts=5, num_experts_per_tok=2)
# name: (configuration class, its options, options of save_pretrained)
THEIRS = {
    "moe": ("Qwen3MoeConfig", {**EXPERTS, "norm_topk_prob": True}, {}),
    "moe-fused-sharded": ("Qwen3MoeConfig", EXPERTS, {"save_original_format": False, "max_shard_size": "10KB"}),
    "moe-window-tied-dense-bias": (
        "Qwen3MoeConfig",
        {**EXPERTS, "use_sliding_window": True, "sliding_window": 5, "tie_word_embeddings": True,
         "mlp_only_layers": [1], "attention_bias": True, "rms_norm_eps": 0.01,
         "rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}, {}),
    "moe-every-second": ("Qwen3MoeConfig", {**EXPERTS, "decoder_sparse_step": 2, "hidden_act": "relu2"}, {}),
    "dense": ("Qwen3Config", {}, {}),
    "dense-window": (
        "Qwen3Config", {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 0}, {}),
}


def write_theirs(folder):
    torch.manual_seed(0)
    for name, (kind, options, saving) in THEIRS.items():
        config = getattr(transformers, kind)(**SMALL, **options)
        model = transformers.AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 1:
                    parameter.normal_(1.0, 0.3)
        model.save_pretrained(folder / name, **saving)


def compare(folder, reference_file):
    model, report = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True)
    faults = {key: value for key, value in report.items() if value}
    if faults:
        sys.exit(f"{folder}: transformers reports {faults}")
    reference = load_file(reference_file)
    with torch.no_grad():
        logits = model.eval()(reference["input_ids"]).logits
    difference = (logits - reference["logits"]).abs().max().item()
    spread = logits.std().item()
    if not difference <= TOLERANCE or not spread > 0.1:
        sys.exit(f"{folder}: logits differ by {difference:g} (their spread is {spread:g})")
    print(f"{folder.parent.name}/{folder.name}: logits within {difference:.1e}")


def main():
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if len(sys.argv) == 4 and sys.argv[1] == "--folder":
        compare(pathlib.Path(sys.argv[2]), sys.argv[3])
        return
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory() as root:
        write_theirs(pathlib.Path(root) / "theirs")
        subprocess.run(
            [sys.argv[1], "[.huggingface]"],
            env={**os.environ, "MOE_PARITY_FOLDER": root},
            stdout=sys.stderr,
            check=True,
        )
        folders = sorted(pathlib.Path(root).glob("*/*"))
        for folder in folders:
            compare(folder, folder / "reference.safetensors")


main()
