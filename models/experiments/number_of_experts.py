"""Loss against the number of experts, each token using as much computation.

K = 2 experts of width 64 are active per token; with one expert it is a network of width 128.
"""

from laboratory import spread, table

STEPS = {"steps": 1000}


def run(lab):
    variants = {"1": {**STEPS, "num_experts": 0, "dense_dim": 128}}
    for experts in (2, 4, 8, 16, 32, 64):
        variants[str(experts)] = {**STEPS, "num_experts": experts}
    trained = lab.train_all(variants)
    times = lab.step_seconds(variants)
    rows = [
        [
            name,
            spread(training.final_loss() for training in trainings),
            f"{times[name] / times['1']:.2f}",
        ]
        for name, trainings in trained.items()
    ]
    return table(["experts", "validation loss", "time per token against one"], rows)
