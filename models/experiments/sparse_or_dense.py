"""Does a sparse model train faster than a dense one with as many active parameters?

The dense twin has one network of width K · F in place of the experts. How long does the sparse
model take to the dense one's final validation loss?
"""

from laboratory import spread, table

STEPS = {"steps": 1200, "eval_every": 24}


def run(lab):
    trained = lab.train_all(
        {
            "dense": {**STEPS, "num_experts": 0, "dense_dim": 384},
            "sparse": STEPS,
        }
    )
    rows = []
    for dense, sparse in zip(trained["dense"], trained["sparse"]):
        step = sparse.first_step_at(dense.final_loss())
        rows.append(
            [
                dense.seed,
                f"{dense.final_loss():.3f}",
                f"{sparse.final_loss():.3f}",
                step,
                f"{step / dense.steps[-1]['step']:.2f}",
                f"{sparse.seconds(step) / dense.seconds():.2f}",
            ]
        )
    per_step = [
        s.seconds() / d.seconds() for d, s in zip(trained["dense"], trained["sparse"])
    ]
    header = [
        "seed",
        "dense: final loss",
        "sparse: final loss",
        "sparse: steps to the dense loss",
        "share of the tokens",
        "share of the time",
    ]
    return (
        table(header, rows)
        + f"\n\nA step of the sparse model takes {spread(per_step, 2)} × the dense one's time."
    )
