#!/bin/sh
# parity.sh SCRIPT ARGUMENTS...: runs a comparison with a Python library in the environment that
# MOE_PARITY_PYTHON names (.ci/run makes one). Without it: exit status 77, "skipped" for ctest.
[ -n "${MOE_PARITY_PYTHON:-}" ] || { echo "skipped: MOE_PARITY_PYTHON is not set"; exit 77; }
exec "$MOE_PARITY_PYTHON" "$@"
