"""Opens a run of moe-train with transformers: compare_trained_model.py PROGRAMS TENSOR_TESTS TEXT

PROGRAMS is the folder of the programs, TENSOR_TESTS the program moe_tests, TEXT a folder of texts
to train on. The model with the default options must open as AutoModelForCausalLM with the same
logits, the tokenizer as AutoTokenizer with the same ids, and both must write the text that
moe-generate writes. Exit status 77 where transformers is missing (ctest: SKIP_RETURN_CODE).
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

try:
    import torch
    import transformers
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

TESTS = pathlib.Path(__file__).resolve().parent.parent
PROMPT = "Wasser und Brot: the old clock"
# All but the sizes is moe-train's default.
NANO = """--tokenizer=bpe:400 --model-dim=64 --num-layers=2 --expert-dim=64 --context-length=128
    --steps=40 --batch-size=8 --sequence-length=64 --warmup-steps=5 --lr=0.003 --threads=1"""


def train(programs, text, run):
    subprocess.run(
        [programs / "moe-train", *NANO.split(), "--data", text, "--out", run],
        stderr=subprocess.DEVNULL, check=True)


def compare_logits(tensor_tests, model, root):
    # The tensor tests write reference.safetensors into every model folder in "theirs".
    folder = root / "theirs" / "trained"
    shutil.copytree(model, folder)
    subprocess.run(
        [tensor_tests, "[.huggingface]"], env={**os.environ, "MOE_PARITY_FOLDER": root},
        stdout=subprocess.DEVNULL, check=True)
    script = TESTS / "checkpoint" / "compare_with_transformers.py"
    reference = folder / "reference.safetensors"
    subprocess.run([sys.executable, script, "--folder", folder, reference], check=True)


def compare_text(programs, model):
    ours = json.loads(subprocess.run(
        [programs / "moe-generate", model, "--prompt", PROMPT, "--json", "--temperature=0",
         "--max-new-tokens=8", "--threads=1"],
        stdout=subprocess.PIPE, check=True).stdout)
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    inputs = tokenizer(PROMPT, return_tensors="pt")
    ids = theirs.generate(**inputs, max_new_tokens=8, do_sample=False)[0].tolist()
    prompt_tokens = inputs["input_ids"].shape[1]
    if prompt_tokens != ours["prompt_tokens"] or ids[prompt_tokens:] != ours["ids"]:
        sys.exit(f"transformers: {prompt_tokens} prompt tokens, then {ids[prompt_tokens:]}; ours {ours}")
    if tokenizer.decode(ours["ids"], skip_special_tokens=True) != ours["text"]:
        sys.exit(f"the ids {ours['ids']} are not {ours['text']!r} for transformers")
    print(f"the same ids and text: {ours['text']!r}")


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    programs, tensor_tests, text = sys.argv[1:]
    programs = pathlib.Path(programs)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as root:
        root = pathlib.Path(root)
        train(programs, text, root / "run")
        model = root / "run" / "last"
        architecture = json.loads((model / "config.json").read_text())["architectures"]
        if architecture != ["Qwen3MoeForCausalLM"]:
            sys.exit(f"the default model was written as {architecture}")
        compare_logits(tensor_tests, model, root)
        compare_text(programs, model)


main()
