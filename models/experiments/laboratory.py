"""What the experiments share: trainings side by side, their results, tables."""

import concurrent.futures
import dataclasses
import json
import math
import os
import pathlib
import statistics
import subprocess

HERE = pathlib.Path(__file__).resolve().parent
DOMAINS = ("en", "de", "fr", "ru", "ja", "code")

# What base.toml says of a training, for one that goes on with a model.
FURTHER = {
    "lr": 2e-3,
    "warmup_steps": 50,
    "batch_size": 8,
    "sequence_length": 128,
    "eval_tokens": 49152,
    "checkpoint_every": 0,
    "keep_checkpoints": 1,
    "threads": 1,
}


def flag(name):
    return "--" + name.replace("_", "-")


def arguments(options):
    """{"lr": 1e-3, "only": ["experts=3", "router=3"]} as a command line."""
    words = []
    for name, value in options.items():
        if isinstance(value, bool):
            words.append(flag(name) if value else "--no-" + flag(name)[2:])
            continue
        for each in value if isinstance(value, (list, tuple)) else [value]:
            words += [flag(name), str(each)]
    return words


@dataclasses.dataclass
class Training:
    """A finished run."""

    folder: pathlib.Path
    seed: int
    steps: list

    def final_loss(self):
        """Validation loss of the last step, nats per token, the mean of all domains."""
        return self.steps[-1]["val_loss"]

    def step_seconds(self):
        """Time of a step where nothing else disturbed it: a tenth of the steps took less."""
        times = []
        before = 0
        for step in self.steps:
            times.append((step["tokens"] - before) / step["tokens_per_s"])
            before = step["tokens"]
        return sorted(times)[len(times) // 10]


class Laboratory:
    def __init__(self, programs, corpus, out, seeds, jobs):
        self.programs = pathlib.Path(programs)
        self.corpus = pathlib.Path(corpus)
        self.out = pathlib.Path(out)
        self.seeds = range(seeds)
        self.jobs = jobs

    def data(self, domains=DOMAINS, held_out=False):
        """NAME=PATH of domains of the corpus."""
        suffix = "-heldout" if held_out else ""
        return [f"{name}={self.corpus / (name + suffix)}" for name in domains]

    def run(self, program, words, output=None):
        """Runs a program of the toolkit on one thread; returns what it prints."""
        command = [str(self.programs / program), *words]
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False
        )
        if output:
            output.write_text(done.stdout + done.stderr)
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
        return done.stdout

    def evaluate(self, folder, domains=DOMAINS, tokens=None):
        """The JSON of moe-evaluate on held-out text."""
        words = [str(folder), "--json", "--threads", "1"]
        words += arguments({"data": self.data(domains, held_out=True)})
        if tokens:
            words += ["--max-tokens", str(tokens)]
        return json.loads(self.run("moe-evaluate", words))

    def train(self, name, options, seed):
        """Trains once; a run that is there with the same options is not trained again."""
        folder = self.out / f"{name}-{seed}"
        mix = [f"{d}=1" for d in options.get("domains", DOMAINS)]
        domains = options.get("domains", DOMAINS)
        given = {key: value for key, value in options.items() if key != "domains"}
        # With a model of its own comes the rest of what describes it.
        config = {} if "from" in given else {"config": HERE / "base.toml"}
        given = {
            **config,
            "data": self.data(domains),
            "mix": mix,
            "val_data": self.data(domains, held_out=True),
            "eval_every": given["steps"],
            **given,
            "seed": seed,
        }
        words = arguments(given)
        record = folder / "experiment.json"
        if not (record.exists() and json.loads(record.read_text()) == words):
            self.out.mkdir(parents=True, exist_ok=True)
            record.unlink(missing_ok=True)
            self.run("moe-train", [*words, "--out", str(folder), "--overwrite"])
            record.write_text(json.dumps(words))
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        return Training(folder, seed, [json.loads(line) for line in lines])

    def side_by_side(self, work, items):
        """[work(item) for each item], as many at a time as there are jobs."""
        with concurrent.futures.ThreadPoolExecutor(self.jobs) as pool:
            return list(pool.map(work, items))

    def step_seconds(self, variants):
        """Time of a step of each of `variants` {name: options}, one training after the other."""
        best = {}
        for rounds in range(3):
            for name, options in variants.items():
                short = {**options, "steps": 120, "warmup_steps": 20, "eval_every": 0}
                seconds = self.train(f"time-{name}", short, rounds).step_seconds()
                best[name] = min(seconds, best.get(name, seconds))
        return best

    def train_all(self, variants):
        """`variants` {name: options} with all seeds: {name: [Training]}."""
        with concurrent.futures.ThreadPoolExecutor(self.jobs) as pool:
            # Seed by seed, so that the variants share whatever the machine goes through.
            futures = {
                (name, seed): pool.submit(self.train, name, options, seed)
                for seed in self.seeds
                for name, options in variants.items()
            }
            return {
                name: [futures[name, seed].result() for seed in self.seeds] for name in variants
            }


def spread(values, digits=3):
    """Mean ± standard deviation."""
    values = list(values)
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.{digits}f} ± {deviation:.{digits}f}"


def table(header, rows):
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def default_jobs():
    return len(os.sched_getaffinity(0))
