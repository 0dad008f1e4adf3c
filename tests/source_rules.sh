#!/bin/sh
# source_rules.sh ROOT: what the layout promises. Prints every violation; exit status 1 if any.
set -eu
cd "$1"

# includes_only FOLDER ALLOWED...: which folders of moe/ the files in moe/FOLDER may include.
includes_only() {
  folder=$1
  allowed=$(echo "$@" | tr ' ' '|')
  grep -rnE '#include "moe/[a-z_]+/' --include='*.h' --include='*.cpp' "moe/$folder" |
    grep -vE "#include \"moe/($allowed)/" |
    sed "s|\$|    (moe/$folder may include: $*)|"
}

# forbidden PATTERN REASON FILES...: an include that must not be there.
forbidden() {
  pattern=$1 reason=$2
  shift 2
  grep -nE "#include [<\"]($pattern)" "$@" /dev/null | sed "s|\$|    ($reason)|"
}

violations() {
  includes_only files
  includes_only kernels
  includes_only layers kernels
  includes_only decoder layers kernels
  includes_only checkpoint decoder layers kernels files
  includes_only data files
  includes_only conversion data checkpoint decoder layers kernels files
  includes_only evaluation data checkpoint decoder layers kernels files
  includes_only editing evaluation data checkpoint decoder layers kernels files
  includes_only training evaluation data checkpoint decoder layers kernels files
  includes_only generation evaluation data checkpoint decoder layers kernels files

  sources=$(find moe -name '*.h' -o -name '*.cpp')
  public=$(find moe -name '*.h' ! -name '*_internal.h')
  forbidden 'CLI/|fmt/|toml\+\+|toml|apps/|tests/' 'moe/ knows no programs and no tests' $sources
  forbidden 'nlohmann/|pcre2|utf8proc|libxml/' 'public headers show LibTorch and std only' $public
  forbidden '.*_internal\.h' 'public headers include public headers only' $public
  forbidden 'torch/torch\.h' 'moe/libtorch.h compiles in a third of the time' \
    $sources $(find apps tests -name '*.h' -o -name '*.cpp')

  # A source or a test that is in no list is never compiled.
  for file in $(cd moe && find . -name '*.cpp'); do
    grep -q "^ *${file#./}\$" moe/CMakeLists.txt || echo "moe/${file#./}    (not in CMakeLists.txt)"
  done
  for file in $(cd tests && find . -name '*_test.cpp'); do
    grep -qE "(^| )${file#./}( |\)|\$)" tests/CMakeLists.txt ||
      echo "tests/${file#./}    (not in CMakeLists.txt)"
  done
}

found=$(violations)
[ -z "$found" ] || { echo "$found"; exit 1; }
