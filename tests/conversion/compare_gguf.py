"""Compares what moe-convert writes with the model: compare_gguf.py BIN

Trains a small model with the programs in the folder BIN, writes it as GGUF in every type, and
reads these files with the `gguf` package: every tensor must have the values of the safetensors
file within what the type can hold. Exit status 77 where packages are missing.
"""

import pathlib
import subprocess
import sys
import tempfile

try:
    import gguf
    import numpy
    from safetensors.numpy import load_file
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

TEXT = "The harbour wakes before the town does. Gulls argue over the nets.\n\n" * 200
NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate_inp": "mlp.gate",
}
EXPERTS = {"ffn_gate_exps": "gate_proj", "ffn_up_exps": "up_proj", "ffn_down_exps": "down_proj"}
TOLERANCE = {"f32": 0.0, "bf16": 2.0**-8, "q8_0": 0.5 / 127 + 2.0**-11}


def expected(name, weights, experts):
    if name in NAMES:
        return weights[NAMES[name]]
    _, layer, part, _ = name.split(".")
    prefix = f"model.layers.{layer}."
    if part in EXPERTS:
        stack = [weights[f"{prefix}mlp.experts.{e}.{EXPERTS[part]}.weight"] for e in range(experts)]
        return numpy.stack(stack)
    return weights[prefix + LAYER_NAMES[part] + ".weight"]


def compare(file, weights, kind):
    reader = gguf.GGUFReader(file)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    assert fields["general.architecture"] == "qwen3moe", fields["general.architecture"]
    experts = fields["qwen3moe.expert_count"]
    seen = 0
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        wanted = expected(tensor.name, weights, experts)
        values = values.reshape(wanted.shape)
        # A block of 32 shares a scale, so its largest value says how exact it is.
        scale = numpy.abs(wanted).reshape(-1, 32).max(1).repeat(32).reshape(wanted.shape) if (
            tensor.tensor_type == gguf.GGMLQuantizationType.Q8_0) else numpy.abs(wanted)
        assert (numpy.abs(values - wanted) <= TOLERANCE[kind] * scale).all(), tensor.name
        seen += wanted.size
    assert seen == sum(value.size for value in weights.values())
    assert len(fields["tokenizer.ggml.tokens"]) == fields["qwen3moe.vocab_size"]
    print(f"{kind}: {len(reader.tensors)} tensors, equal")


def main():
    programs = pathlib.Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "text.txt").write_text(TEXT)
        run = folder / "run"
        flags = "--model-dim 64 --num-layers 2 --num-heads 2 --num-experts 4 --expert-dim 32 --steps 2 "
        flags += "--context-length 64 --sequence-length 32 --batch-size 2 --tokenizer bpe:300 --threads 1"
        command = [programs / "moe-train", "--data", folder / "text.txt", "--out", run, *flags.split()]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        weights = load_file(run / "last" / "model.safetensors")
        for kind in TOLERANCE:
            file = folder / f"{kind}.gguf"
            subprocess.run([programs / "moe-convert", run, file, "--gguf", kind], check=True)
            compare(file, weights, kind)


main()
