#!/bin/sh
# install.sh BUILD PREFIX [PROGRAM]: installs, moves the installation to PREFIX, and starts the
# program there. It must not need the build folder, unless for a LibTorch that lies elsewhere.
set -eu
build=$1 prefix=$2 program=${3:-}
rm -rf "$prefix" "$prefix.new"
cmake --install "$build" --prefix "$prefix.new" >/dev/null
mv "$prefix.new" "$prefix"
if [ -n "$program" ]; then
  "$prefix/bin/$program" --version
  if ldd "$prefix/bin/$program" | grep -v "=> $prefix/" | grep -E "=> $build/|/build/venv/|not found"; then
    echo "the installed $program needs the files above" >&2
    exit 1
  fi
fi
