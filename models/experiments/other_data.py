"""Experts on data that is no language: vectors from eight processes, against one network.

An outside project, tests/package_consumer, built against the installed library.
"""

import subprocess

from laboratory import HERE

SOURCE = HERE.parent.parent / "tests" / "package_consumer"


def run(lab):
    build = lab.out.resolve()
    prefix = build / "installed"
    programs = lab.programs.resolve()
    for command in (
        ["cmake", "--install", programs.parent, "--prefix", prefix],
        ["cmake", "-S", SOURCE, "-B", build, f"-DCMAKE_PREFIX_PATH={prefix}"],
        ["cmake", "--build", build, "--target", "processes"],
    ):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return subprocess.run(
        [build / "processes", str(len(lab.seeds))], check=True, capture_output=True, text=True
    ).stdout
