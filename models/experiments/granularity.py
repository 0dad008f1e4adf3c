"""Few wide experts or many narrow ones, with as much computation per token?

K · F = 1024 throughout, and E · F = 4096. A shared expert takes the place of half of it.
"""

from laboratory import spread, table

STEPS = {"steps": 600}


def experts(count, chosen, width, shared=0):
    return {
        **STEPS,
        "num_experts": count,
        "experts_per_token": chosen,
        "expert_dim": width,
        "shared_expert_dim": shared,
    }


def run(lab):
    variants = {
        "8 × 512, top 2": experts(8, 2, 512),
        "16 × 256, top 4": experts(16, 4, 256),
        "32 × 128, top 8": experts(32, 8, 128),
        "64 × 64, top 16": experts(64, 16, 64),
        "8 × 512, top 1, shared 512": experts(8, 1, 512, 512),
        "64 × 64, top 8, shared 512": experts(64, 8, 64, 512),
    }
    folders = {f"kind{i}": options for i, options in enumerate(variants.values())}
    trained = lab.train_all(folders)
    times = lab.step_seconds(folders)
    rows = [
        [
            name,
            spread(training.final_loss() for training in trained[folder]),
            f"{times[folder] / times['kind0']:.2f}",
        ]
        for name, folder in zip(variants, folders)
    ]
    return table(["experts", "validation loss", "time per token against the first"], rows)
