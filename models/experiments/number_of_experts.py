"""Loss against the number of experts, each token using as much computation.

K = 2 experts of width 192 are active per token; with one expert it is a network of width 384.
"""

from laboratory import spread, table

STEPS = {"steps": 600}


def run(lab):
    variants = {"1": {**STEPS, "num_experts": 0, "dense_dim": 384}}
    for experts in (2, 4, 8, 16, 32, 64):
        variants[str(experts)] = {**STEPS, "num_experts": experts}
    trained = lab.train_all(variants)
    one = [training.seconds() for training in trained["1"]]
    rows = [
        [
            name,
            spread(training.final_loss() for training in trainings),
            spread((t.seconds() / base for t, base in zip(trainings, one)), 2),
        ]
        for name, trainings in trained.items()
    ]
    return table(["experts", "validation loss", "time per token against one"], rows)
