"""compare_builds.py OLD NEW [--keep FOLDER]: shows that two builds of the programs compute the same.

OLD and NEW are the bin/ folders of two builds on this machine. Both train short runs of every kind
(routers, dense, latent attention, adapters, types, recomputation, resume), evaluate them and write
text; then losses and routing of metrics.jsonl, recorded options, weights and ids are compared, bit
for bit. Bits differ between processors, so there are no recorded values: what is compared is
made here and now. Exit code 1 at any difference. Takes about two minutes.
"""

import argparse
import hashlib
import json
import pathlib
import subprocess
import sys
import tempfile

TEXT = pathlib.Path(__file__).parent / "fixtures" / "text"
DATA = [f"--data=en={TEXT / 'en'}", f"--data=de={TEXT / 'de'}"]
SMALL = [
    "--tokenizer=bpe:300", "--model-dim=32", "--num-layers=2", "--num-heads=4",
    "--num-kv-heads=2", "--context-length=64", "--num-experts=4", "--experts-per-token=2",
    "--expert-dim=24", "--dense-dim=48", "--steps=8", "--batch-size=4", "--sequence-length=32",
    "--eval-every=4", "--eval-tokens=512", "--checkpoint-every=4", "--warmup-steps=2",
    "--threads=2", "--seed=3",
]  # fmt: skip

# Runs by name: flags added to SMALL.
RUNS = {
    "plain": [],
    "float32": ["--dtype=float32"],
    "bfloat16": ["--dtype=bfloat16"],
    "dense": ["--num-experts=0"],
    "recompute": ["--recompute", "--accumulation-steps=2", "--dtype=float32"],
    "documents": ["--document-mask", "--dense-layers=0", "--shared-expert-dim=16",
                  "--shared-expert-gate"],
    "latent": ["--key-value-latent-dim=16", "--query-latent-dim=24", "--rotary-dim=4",
               "--head-dim=8", "--num-kv-heads=0", "--no-qk-norm"],
    "attention": ["--sliding-window=8", "--full-attention-layers=1", "--attention-sinks",
                  "--attention-gate=sigmoid", "--qkv-bias", "--clip-qkv=4",
                  "--qk-norm-kind=full", "--no-rope-layers=1", "--query-growth=0.1"],
    "positions": ["--rope-scaling=yarn", "--rope-factor=2", "--rope-original-length=32",
                  "--layer-rope-theta=10000,500", "--layer-rotary-dim=8,4"],
    "norms": ["--norm=layer_bias", "--norm-placement=both", "--residual-multiplier=0.5",
              "--moe-output-norm", "--tie-embeddings", "--logits-multiplier=0.5"],
    "experts": ["--activation=gelu_tanh", "--no-gated", "--expert-bias",
                "--activation-limit=3", "--layer-num-experts=4,3"],
    "oss": ["--activation-limit=7", "--activation-sigmoid-scale=1.7", "--activation-offset=1",
            "--expert-bias", "--router-bias", "--attention-bias", "--head-bias"],
    "bias": ["--router-score=sigmoid", "--router-selection-bias", "--load-balancing-weight=0",
             "--routed-scaling-factor=2.5", "--normalize-minimum=1e-20"],
    "softplus": ["--router-score=sqrt_softplus", "--router-logit-cap=5"],
    "softmax-of-chosen": ["--router-score=identity", "--router-weighting=softmax",
                          "--router-noise=learned"],
    "groups": ["--router-selection=groups_by_top2", "--router-groups=2",
               "--router-groups-kept=1", "--router-score=sigmoid",
               "--router-selection-bias"],
    "cosine": ["--router-gate=cosine", "--router-cosine-dim=8", "--normalize-power=2"],
    "sparsemixer": ["--router-weighting=sparsemixer"],
    "hash": ["--router-selection=hash"],
    "sinkhorn": ["--router-selection=sinkhorn", "--router-sees-future"],
    "losses": ["--global-balancing-weight=0.01", "--sequence-balancing-weight=0.01",
               "--importance-weight=0.01", "--pooled-balancing-weight=0.01"],
    "adapters": ["--lora-rank=2", "--lora-targets=attention", "--lora-targets=experts"],
    **{f"router-{name}": [f"--router={name}", "--num-experts=8"]
       for name in ("switch", "gshard", "mixtral", "olmoe", "gpt-oss", "llama4",
                    "st-moe", "dense")},
    "router-deepseek-v2": ["--router=deepseek-v2", "--num-experts=8", "--router-groups=4",
                           "--router-groups-kept=2"],
    "router-deepseek-v3": ["--router=deepseek-v3", "--num-experts=8", "--router-groups=2"],
    "router-expert-choice": ["--router=expert-choice", "--router-sees-future"],
}  # fmt: skip

class Build:
    """The programs of one build, and the folder in which they work."""

    def __init__(self, programs, folder):
        self.programs = pathlib.Path(programs).resolve()
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def start(self, program, *arguments):
        command = [self.programs / program, *arguments]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True)

    def run(self, program, *arguments):
        result = self.start(program, *arguments)
        if result.returncode != 0:
            shown = " ".join(map(str, result.args))
            sys.exit(f"{shown}\nended with {result.returncode}:\n{result.stderr}")
        return result.stdout

    def write(self, name, weights):
        """The ids that a model writes; the word "refused" if it cannot with such weights."""
        written = self.start(
            "moe-generate", name, "--prompt=The ", "--max-new-tokens=24", "--json",
            "--ignore-end-of-text", f"--weights={weights}")  # fmt: skip
        return json.loads(written.stdout)["ids"] if written.returncode == 0 else "refused"

    def results(self, name):
        """What run `name` leaves, by the name of each result."""
        flags = [*DATA, *SMALL, *RUNS[name]]
        self.run("moe-train", *flags, "--out", name, "--stop-after=4", "--overwrite")
        self.run("moe-train", "--out", name, "--resume")
        run = self.folder / name
        found = {"metrics": [without_times(line) for line in open(run / "metrics.jsonl")]}
        found["config.toml"] = (run / "config.toml").read_text()
        for file in sorted((run / "last").iterdir()):
            if file.suffix in (".json", ".safetensors"):
                found[file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
        evaluated = json.loads(self.run("moe-evaluate", name, *DATA, "--json"))
        found["evaluation"] = {key: evaluated[key] for key in ("loss", "routing")}
        for weights in ("float32", "bfloat16", "int8"):
            found[f"ids of {weights}"] = self.write(name, weights)
        return found


def without_times(line):
    record = json.loads(line)
    return {key: value for key, value in record.items() if "_per_s" not in key and "seconds" not in key}


def compare(old, new, only):
    different = []
    for name in only or RUNS:
        before, after = old.results(name), new.results(name)
        differing = sorted(
            key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
        refused = [key for key, value in after.items() if value == "refused"]
        outcome = f"differs in {', '.join(differing)}" if differing else "same"
        print(f"{name}: {outcome}" + "".join(f"; no {key}" for key in refused), flush=True)
        different += [name] if differing else []
    return different


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("--keep", help="work in this folder and leave it")
    parser.add_argument("--only", action="append", choices=sorted(RUNS))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(arguments.keep or temporary).resolve()
        old, new = Build(arguments.old, folder / "old"), Build(arguments.new, folder / "new")
        different = compare(old, new, arguments.only)
    print("The builds compute the same." if not different else f"{len(different)} runs differ.")
    sys.exit(1 if different else 0)


main()
