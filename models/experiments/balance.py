"""Load and loss for several ways to balance the experts, and for none."""

import statistics

from laboratory import spread, table

# Half the experts' usual width for twice their number: more to keep busy.
STEPS = {"steps": 400, "num_experts": 32, "expert_dim": 96, "experts_per_token": 4}
NONE = {"load_balancing_weight": 0, "router_z_weight": 0}

VARIANTS = {
    "none": NONE,
    "z-loss only": {"router_z_weight": 0.001, "load_balancing_weight": 0},
    "Switch loss": {"load_balancing_weight": 0.01, "router_z_weight": 0},
    "Switch loss and z-loss": {},
    "global batch, 4 forward passes per step": {
        **NONE,
        "global_balancing_weight": 0.01,
        "batch_size": 4,
        "accumulation_steps": 4,
    },
    "Switch loss, 4 forward passes per step": {
        "router_z_weight": 0,
        "batch_size": 4,
        "accumulation_steps": 4,
    },
    "selection bias": {**NONE, "router_selection_bias": True, "router_score": "sigmoid"},
}


def late(training, key):
    """Mean over layers and the last quarter of the steps."""
    steps = training.steps[-len(training.steps) // 4 :]
    return statistics.mean(layer[key] for step in steps for layer in step["moe"])


def run(lab):
    folders = {f"kind{i}": {**STEPS, **given} for i, given in enumerate(VARIANTS.values())}
    trained = lab.train_all(folders)
    rows = [
        [
            name,
            spread(training.final_loss() for training in trained[folder]),
            spread((late(training, "max_violation") for training in trained[folder]), 2),
            spread((late(training, "entropy") for training in trained[folder]), 3),
            spread((late(training, "dead") * 100 for training in trained[folder]), 1),
        ]
        for name, folder in zip(VARIANTS, folders)
    ]
    header = ["balance", "validation loss", "max violation", "entropy of the load", "dead, %"]
    return table(header, rows)
