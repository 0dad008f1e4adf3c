#!/bin/sh
# quickstart.sh: from nothing to a trained mixture-of-experts language model, in about ten minutes.
# May be run again at any time: what is done is kept, an interrupted training goes on.
set -eu
cd "$(dirname "$0")/.."
say() { printf '\n==> %s\n' "$*"; }

say "1/5 Set-up: packages and LibTorch"
sh cmake/setup.sh debian-handbook

say "2/5 Building the programs (4 minutes on two cores, nothing to do the second time)"
cmake --preset release ${MOE_LIBTORCH:+-DMOE_LIBTORCH="$MOE_LIBTORCH"}
cmake --build --preset release
PATH=$PWD/build/release/bin:$PATH

say "3/5 Corpus: one book in five languages, and Python's standard library as code"
if [ -f corpus/manifest.json ]; then
  echo "corpus/ is there already."
else
  version_of() { dpkg-query -W -f "$1=\${Version}" "$1" 2>/dev/null || echo "$1=unknown"; }
  moe-prepare --demo --out corpus --note "$(version_of debian-handbook)" \
    --note "$(version_of python3)"
fi

say "4/5 Training in runs/demo (3 to 4 minutes on two cores)"
training='' validation='' heldout=''
for domain in en de fr ru ja code; do
  training="$training --data $domain=corpus/$domain --mix $domain=1"
  validation="$validation --val-data $domain=corpus/$domain-heldout"
  heldout="$heldout --data $domain=corpus/$domain-heldout"
done
if [ -e runs/demo/last ]; then
  moe-train --out runs/demo --resume
else
  moe-train --config models/demo.toml $training $validation --out runs/demo \
    --overwrite
fi

say "5/5 Evaluating on held-out text, and writing some"
moe-evaluate runs/demo $heldout
write() {
  printf '\n--- %s: %s\n' "$1" "$2"
  moe-generate runs/demo --prompt "$2" --max-new-tokens 60 --temperature 0.5 --min-p 0.1
}
write en "The package manager"
write de "Der Kernel"
write fr "Le système"
write ru "Система"
write ja "システム"
write code "def read"

cat <<'END'

==> Done. Where everything lies:
    build/release/bin   moe-prepare, moe-train, moe-evaluate, moe-generate, moe-benchmark
    corpus              the text: a folder per domain, held-out documents beside it, manifest.json
    runs/demo           the run: config.toml, metrics.jsonl, TensorBoard events, checkpoints
    runs/demo/best      the model as a Hugging Face folder (architecture qwen3_moe)
What to try next:
    build/release/bin/moe-generate runs/demo --interactive
    build/release/bin/moe-train --config models/demo.toml --data notes=FOLDER --out runs/notes
    build/release/bin/moe-train --help                every option; models/ holds larger presets
    sh cmake/test.sh                                  the tests
    cmake --install build/release --prefix FOLDER     the programs and the library
END
