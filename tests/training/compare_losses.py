"""Compares our pooled balancing loss with transformers: compare_losses.py TENSOR_TESTS

TENSOR_TESTS is the program moe_tests. It writes router logits of several layers, a mask and our
losses; load_balancing_loss_func of transformers must give the same numbers within 1e-6. Exit
status 77 where transformers is missing (ctest: SKIP_RETURN_CODE).
"""

import os
import pathlib
import subprocess
import sys
import tempfile

try:
    from safetensors.torch import load_file
    from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

TOLERANCE = 1e-6


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory() as root:
        path = pathlib.Path(root) / "losses.safetensors"
        subprocess.run(
            [sys.argv[1], "[.routing_losses]"],
            env={**os.environ, "MOE_LOSSES_FILE": str(path)},
            stdout=sys.stderr,
            check=True,
        )
        tensors = load_file(path)
    logits = tuple(tensors[f"logits.{layer}"] for layer in range(3))
    for name, mask in (("pooled", None), ("masked", tensors["mask"])):
        theirs = load_balancing_loss_func(logits, num_experts=10, top_k=3, attention_mask=mask).item()
        ours = tensors[name].item()
        if not abs(ours - theirs) <= TOLERANCE * abs(theirs):
            sys.exit(f"{name}: ours is {ours}, theirs {theirs}")
        print(f"{name}: {ours:.7f}, theirs {theirs:.7f}")


main()
