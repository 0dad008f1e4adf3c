#!/usr/bin/env python3
"""Runs experiments of models/experiments and prints their tables.

    python3 models/experiments/run.py sparse_or_dense
    python3 models/experiments/run.py            # lists them

They need the programs and the corpus that the quickstart makes, and nothing else.
"""

import argparse
import importlib

import laboratory

EXPERIMENTS = [
    "sparse_or_dense",
    "number_of_experts",
    "granularity",
    "balance",
    "repair",
    "growth",
    "upcycling",
    "other_data",
]


def first_line(name):
    return importlib.import_module(name).__doc__.strip().splitlines()[0]


def main():
    listing = "\n".join(f"  {name:20} {first_line(name)}" for name in EXPERIMENTS)
    parser = argparse.ArgumentParser(
        description=f"Experiments:\n{listing}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", choices=[*EXPERIMENTS, []], metavar="NAME")
    parser.add_argument("--programs", default="build/release/bin", help="where moe-train is")
    parser.add_argument("--corpus", default="corpus", help="the quickstart's corpus")
    parser.add_argument("--out", default="runs/experiments", help="folder for the runs")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each kind (3)")
    parser.add_argument(
        "--jobs",
        type=int,
        default=laboratory.default_jobs(),
        help="trainings at a time, one thread each (as many as there are cores)",
    )
    options = parser.parse_args()
    if not options.names:
        parser.print_help()
    for name in options.names:
        lab = laboratory.Laboratory(
            options.programs,
            options.corpus,
            f"{options.out}/{name}",
            options.seeds,
            options.jobs,
        )
        print(importlib.import_module(name).run(lab), flush=True)


if __name__ == "__main__":
    main()
