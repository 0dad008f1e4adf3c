"""Compares our models with transformers on generated checkpoints: compare_oracles.py PROGRAM [--only NAME...]

PROGRAM is moe_oracle_parity. make_oracles.py writes checkpoints of every architecture that we read,
with what transformers computes from them; the program compares logits, hidden states, routing,
gradients and a greedy continuation, and saves each checkpoint again. transformers must open what it
saved and give the reference's logits. Exit status 77 where transformers is missing (ctest:
SKIP_RETURN_CODE).
"""

import json
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

HERE = pathlib.Path(__file__).parent


def check_saved(saved, oracle):
    """Returns what is wrong with a saved folder, or nothing."""
    reference = json.loads((oracle / "reference.json").read_text())
    kind = getattr(transformers, reference["class"])
    model, report = kind.from_pretrained(
        saved, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    faults = {key: value for key, value in report.items() if value}
    if faults:
        return f"transformers reports {faults}"
    expected = load_file(oracle / "reference.safetensors")
    with torch.no_grad():
        logits = model.eval()(expected["input_ids"]).logits
    tolerance = reference["tolerance"]["logits"]
    if not torch.allclose(logits, expected["logits"], rtol=tolerance["rtol"], atol=tolerance["atol"]):
        return f"logits differ by {(logits - expected['logits']).abs().max().item():g}"
    return None


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    program, options = sys.argv[1], sys.argv[2:]
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as root:
        oracles, saved = pathlib.Path(root) / "oracles", pathlib.Path(root) / "saved"
        subprocess.run(
            [sys.executable, HERE / "make_oracles.py", "--out", oracles, *options],
            stdout=subprocess.DEVNULL, check=True)
        folders = sorted(path.parent for path in oracles.glob("*/reference.json"))
        failed = subprocess.run([program, "--save", saved, *folders]).returncode != 0
        for oracle in folders:
            try:
                fault = check_saved(saved / oracle.name, oracle)
            except Exception as error:
                fault = f"{type(error).__name__}: {str(error)[:300]}"
            if fault:
                print(f"{oracle.name}: saved again: {fault}")
                failed = True
        print(f"transformers opened {len(folders)} saved folders")
        sys.exit(failed)


main()
