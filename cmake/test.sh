#!/bin/sh
# test.sh: sets everything up, builds it and runs every test. May be run again at any time.
set -eu
cd "$(dirname "$0")/.."
say() { printf '\n==> %s\n' "$*"; }

say "Set-up: packages and LibTorch"
sh cmake/setup.sh catch2

say "Building the library, the programs and the tests (6 minutes on two cores the first time)"
cmake --preset dev ${MOE_LIBTORCH:+-DMOE_LIBTORCH="$MOE_LIBTORCH"}
cmake --build --preset dev

say "Running the tests"
ctest --preset dev
