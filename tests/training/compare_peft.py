"""Compares adapters trained here with PEFT: compare_peft.py TENSOR_TESTS

TENSOR_TESTS is the program moe_tests. It writes a model, adapters of its experts, router and
attention in PEFT's layout, and the logits that it computes with them. PEFT must load both, leave
no adapter untouched, and give the same logits within 1e-4. Exit status 77 where transformers or
peft is missing (ctest: SKIP_RETURN_CODE).
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


def logits_of(model, ids):
    with torch.no_grad():
        return model.eval()(ids).logits


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    warnings.simplefilter("error", UserWarning)  # PEFT only warns of missing adapter keys
    transformers.logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as root:
        folder = pathlib.Path(root)
        subprocess.run(
            [sys.argv[1], "[.peft]"],
            env={**os.environ, "MOE_PEFT_FOLDER": root},
            stdout=sys.stderr,
            check=True,
        )
        reference = load_file(folder / "reference.safetensors")
        base = transformers.AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.float32)
        ids = reference["input_ids"]
        without = (logits_of(base, ids) - reference["logits"]).abs().max().item()
        adapted = peft.PeftModel.from_pretrained(base, folder / "adapter")
        difference = (logits_of(adapted, ids) - reference["logits"]).abs().max().item()
        merged = (logits_of(adapted.merge_and_unload(), ids) - reference["logits"]).abs().max().item()
    print(f"logits within {difference:.1e}, merged {merged:.1e}, without adapters {without:.1e}")
    if not (difference <= TOLERANCE and merged <= TOLERANCE and without > 100 * TOLERANCE):
        sys.exit("PEFT does not compute what we do")


main()
