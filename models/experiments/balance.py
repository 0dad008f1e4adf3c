"""Load, loss and what experts know of the domain, for several ways to balance, and for none."""

import json
import statistics

from laboratory import arguments, spread, table

# Half the experts' usual width for twice their number: more to keep busy.
STEPS = {"steps": 1000, "num_experts": 32, "expert_dim": 32, "experts_per_token": 4}
NONE = {"load_balancing_weight": 0, "router_z_weight": 0}

VARIANTS = {
    "none": NONE,
    "z-loss only": {"router_z_weight": 0.001, "load_balancing_weight": 0},
    "Switch loss": {"load_balancing_weight": 0.01, "router_z_weight": 0},
    "Switch loss and z-loss": {},
    "global batch, 4 forward passes per step": {
        **NONE,
        "global_balancing_weight": 0.01,
        "batch_size": 2,
        "accumulation_steps": 4,
    },
    "Switch loss, 4 forward passes per step": {
        "router_z_weight": 0,
        "batch_size": 2,
        "accumulation_steps": 4,
    },
    "selection bias": {**NONE, "router_selection_bias": True, "router_score": "sigmoid"},
}


def late(training, key):
    """Mean over layers and the last quarter of the steps."""
    steps = training.steps[-len(training.steps) // 4 :]
    return statistics.mean(layer[key] for step in steps for layer in step["moe"])


def specialisation(lab, training):
    """Of each layer: bits that an expert tells of the domain of held-out text."""
    out = training.folder / "report.json"
    if not out.exists():
        flags = {"data": lab.data(held_out=True), "threads": 1, "json": out}
        page = training.folder / "report.html"
        lab.run("moe-report", [str(training.folder), "--out", str(page), *arguments(flags)])
    return [layer["specialisation"] for layer in json.loads(out.read_text())["layers"]]


def load_table(trained):
    rows = [
        [
            name,
            spread(training.final_loss() for training in trainings),
            spread((late(training, "max_violation") for training in trainings), 2),
            spread((late(training, "entropy") for training in trainings), 3),
            spread((late(training, "dead") * 100 for training in trainings), 1),
        ]
        for name, trainings in trained.items()
    ]
    header = ["balance", "validation loss", "max violation", "entropy of the load", "dead, %"]
    return table(header, rows)


def specialisation_table(lab, trained):
    rows = []
    for name, trainings in trained.items():
        by_layer = list(zip(*(specialisation(lab, training) for training in trainings)))
        rows.append([name])
        for layer in by_layer:
            chance = statistics.mean(found["chance_mean"] for found in layer)
            rows[-1].append(f"{spread(found['bits'] for found in layer)} ({chance:.2f})")
    layers = len(rows[0]) - 1
    return table(["balance", *(f"layer {i}, bits (by chance)" for i in range(layers))], rows)


def run(lab):
    folders = {f"kind{i}": {**STEPS, **given} for i, given in enumerate(VARIANTS.values())}
    results = lab.train_all(folders)
    trained = dict(zip(VARIANTS, results.values()))
    return load_table(trained) + "\n\n" + specialisation_table(lab, trained)
