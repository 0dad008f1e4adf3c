"""Can a model learn a new domain by new experts alone, without forgetting the others?

A model is trained without one domain and grown by two experts per layer. Then these and their
rows of the router are trained on the new domain, alone or with some of the old ones in each
batch; everything else stays as it is. Losses on held-out text, in nats per token.
"""

from laboratory import DOMAINS, FURTHER, arguments, spread, table

NEW = "ja"
OLD = [domain for domain in DOMAINS if domain != NEW]
BASE = {"domains": OLD, "steps": 1000}
# Share of each old domain in a batch where the new one has 1.
REPLAY = {"alone": 0.0, "old text 1 : 20 each": 0.05, "old text 1 : 5 each": 0.2}
# As many batches of the new domain in all.
STEPS = {"alone": 400, "old text 1 : 20 each": 500, "old text 1 : 5 each": 800}


def grow(lab, base, seed):
    """The base with new experts, not yet trained."""
    grown = lab.out / f"grown-{seed}"
    if not grown.exists():
        flags = {
            "experts": 2,
            "data": lab.data([NEW]),
            "keep": lab.data(OLD),
            "tokens": 16384,
            "threads": 1,
        }
        lab.run("moe-edit", ["grow", str(base.folder), str(grown), *arguments(flags)])
    return grown


def train_new(lab, grown, kind, seed):
    replay = REPLAY[kind]
    domains = DOMAINS if replay > 0 else [NEW]
    options = {
        "domains": domains,
        "from": grown,
        "only": "new-experts",
        "mix": [f"{name}={1 if name == NEW else replay}" for name in domains],
        "steps": STEPS[kind],
        **FURTHER,
    }
    return lab.train(f"trained-{list(REPLAY).index(kind)}", options, seed)


def losses(lab, folder):
    domains = lab.evaluate(folder, tokens=16384)["domains"]
    return {name: score["loss"] for name, score in domains.items()}


def experiment(lab, seed):
    """Losses by domain of the base and of each way to go on: {name: {domain: loss}}."""
    base = lab.train("base", BASE, seed)
    result = {"base": losses(lab, base.folder)}
    grown = grow(lab, base, seed)
    result["grown, not trained"] = losses(lab, grown)
    for kind in REPLAY:
        result["trained " + kind] = losses(lab, train_new(lab, grown, kind, seed).folder)
    return result


def run(lab):
    by_seed = lab.side_by_side(lambda seed: experiment(lab, seed), lab.seeds)
    rows = []
    for name in by_seed[0]:
        row = [name, spread(result[name][NEW] for result in by_seed)]
        for domain in OLD:
            changes = [100 * (r[name][domain] / r["base"][domain] - 1) for r in by_seed]
            row.append("" if name == "base" else spread(changes, 2) + " %")
        rows.append(row)
    return table(["model", f"{NEW}, loss", *(f"{name}, change" for name in OLD)], rows)
