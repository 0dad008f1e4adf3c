"""Experts that die: are they noticed, does reviving them hurt, does it help?

A small model of 16 experts, one per token, whose router learns thirty times as fast, without
balance losses, loses most of them. The same with `--on-collapse rebalance`, and, for comparison,
with its balance losses and an ordinary router.
"""

import statistics

from laboratory import HERE, spread, table

NANO = {
    "config": HERE.parent / "nano.toml",
    "threads": 1,
    "steps": 600,
    "checkpoint_every": 0,
    "num_experts": 16,
    "experts_per_token": 1,
}
HOT = {"load_balancing_weight": 0, "router_z_weight": 0, "router_lr_ratio": 30}

VARIANTS = {
    "hot router, no balance loss": {**NANO, **HOT},
    "the same, rebalanced": {**NANO, **HOT, "on_collapse": "rebalance"},
    "balance losses": NANO,
}


def dead_share(training):
    """Of the experts, those without load in the last quarter of the steps, in percent."""
    steps = training.steps[-len(training.steps) // 4 :]
    return 100 * statistics.mean(layer["dead"] for step in steps for layer in step["moe"])


def delays(training):
    """Steps from an expert's last load to the warning, for every warning."""
    return [
        step["step"] - collapse["since_step"] + 1
        for step in training.steps
        for collapse in step.get("collapse", [])
        if collapse["kind"] == "dead_experts"
    ]


def jumps(training):
    """Changes of the held-out loss by each revival, in percent."""
    return [
        100 * (step["val_loss_after_revival"] / step["val_loss_before_revival"] - 1)
        for step in training.steps
        if "val_loss_after_revival" in step
    ]


def recoveries(training):
    """Load of every revived expert over the ten steps after it, in units of the mean load."""
    loads = []
    for i, step in enumerate(training.steps):
        later = training.steps[i + 1 : i + 11]
        for revival in step.get("revived", []):
            layers = [
                next(layer for layer in other["moe"] if layer["layer"] == revival["layer"])
                for other in later
            ]
            for expert in revival["experts"] if layers else []:
                mean = statistics.mean(layer["load"][expert] for layer in layers)
                loads.append(mean * len(layers[0]["load"]))
    return loads


def span(values, digits, unit=""):
    values = list(values)
    if not values:
        return "none"
    low, high = min(values), max(values)
    if low == high:
        return f"{low:.{digits}f}{unit}"
    return f"{low:.{digits}f} to {high:.{digits}f}{unit}"


def together(measure, trainings):
    return [value for training in trainings for value in measure(training)]


def run(lab):
    folders = {f"kind{i}": options for i, options in enumerate(VARIANTS.values())}
    trained = lab.train_all(folders)
    rows = []
    for name, folder in zip(VARIANTS, folders):
        trainings = trained[folder]
        rows.append(
            [
                name,
                spread(training.final_loss() for training in trainings),
                spread((dead_share(training) for training in trainings), 1),
                len(together(delays, trainings)),
                span(together(delays, trainings), 0),
                span(together(jumps, trainings), 3, " %"),
                span(together(recoveries, trainings), 2),
            ]
        )
    header = [
        "recipe",
        "validation loss",
        "dead at the end, %",
        "warnings, all seeds",
        "steps until the warning",
        "change of loss by reviving",
        "load in the ten steps after, in means",
    ]
    return table(header, rows)
