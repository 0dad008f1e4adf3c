"""Is a sparse model better made of a trained dense one than trained from scratch?

The dense model's networks are cut into two pieces each and copied to 16 experts, 2 of which are
active per token, so that it goes on to compute what it did before; then it is trained on.
"""

from laboratory import FURTHER, arguments, spread, table

BASE = {"num_experts": 0, "dense_dim": 128, "steps": 1000}
MORE = 600
PIECES = {"experts": 16, "experts_per_token": 2, "parts": 2}


def further(lab, name, folder, seed):
    """Trains the model of this folder on."""
    options = {"from": folder, "steps": MORE, **FURTHER}
    return lab.train(name, options, seed).final_loss()


def upcycle(lab, base, name, flags, seed):
    """The folder of the mixture."""
    mixture = lab.out / f"{name}-{seed}"
    if not mixture.exists():
        words = arguments({**PIECES, **flags, "seed": seed, "threads": 1})
        lab.run("moe-edit", ["upcycle", str(base.folder), str(mixture), *words])
    return mixture


def experiment(lab, seed):
    base = lab.train("dense", BASE, seed)
    copies = upcycle(lab, base, "copies", {}, seed)
    fresh = upcycle(lab, base, "fresh", {"reinitialize": 0.5}, seed)
    return {
        "dense": base.final_loss(),
        "dense, trained on": further(lab, "dense-on", base.folder, seed),
        "upcycled, trained on": further(lab, "copies-on", copies, seed),
        "upcycled, half of each expert drawn anew, trained on": further(
            lab, "fresh-on", fresh, seed
        ),
        "sparse from scratch": lab.train("scratch", {"steps": MORE}, seed).final_loss(),
        "sparse from scratch, as many steps in all": lab.train(
            "scratch-long", {"steps": BASE["steps"] + MORE}, seed
        ).final_loss(),
    }


def run(lab):
    by_seed = lab.side_by_side(lambda seed: experiment(lab, seed), lab.seeds)
    steps = [BASE["steps"], *[f"{BASE['steps']} + {MORE}"] * 3, MORE, BASE["steps"] + MORE]
    rows = [
        [name, number, spread(result[name] for result in by_seed)]
        for name, number in zip(by_seed[0], steps)
    ]
    return table(["model", "steps", "validation loss"], rows)
