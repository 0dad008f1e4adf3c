"""Does a sparse model train faster than a dense one with as many active parameters?

The dense twin has one network of width K · F in place of the experts. How many steps does the
sparse model need for the dense one's final validation loss? Each number of steps is a training
of its own, as the learning rate falls to a tenth over it.
"""

from laboratory import spread, table

STEPS = 4000
DENSE = {"num_experts": 0, "dense_dim": 128}
SHARES = (0.5, 0.6, 1.0)


def run(lab):
    variants = {"dense": {**DENSE, "steps": STEPS}}
    for share in SHARES:
        variants[f"sparse-{share}"] = {"steps": round(share * STEPS)}
    trained = lab.train_all(variants)
    times = lab.step_seconds({"dense": DENSE, "sparse": {}})
    slower = times["sparse"] / times["dense"]
    rows = [["dense", STEPS, spread(t.final_loss() for t in trained["dense"]), "1", "1"]]
    for share in SHARES:
        losses = [t.final_loss() for t in trained[f"sparse-{share}"]]
        steps = round(share * STEPS)
        rows.append(["16 experts", steps, spread(losses), share, f"{share * slower:.2f}"])
    header = ["model", "steps", "validation loss", "share of the tokens", "share of the time"]
    return (
        table(header, rows)
        + f"\n\nA step took {1e3 * times['dense']:.1f} ms dense, "
        + f"{1e3 * times['sparse']:.1f} ms sparse."
    )
