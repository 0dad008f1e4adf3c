#!/bin/sh
# report_in_browser.sh BIN TEXT: trains a small model on the texts in TEXT and a hostile one, makes
# its report and opens it in a headless browser: no message on the console, everything drawn, and
# all of it reachable by keyboard. Exit status 77, which ctest takes as skipped, without chromium.
set -eu
bin=$1 text=$2
here=$(cd "$(dirname "$0")" && pwd)

browser=${MOE_CHROMIUM:-$(command -v chromium || command -v chromium-browser || true)}
if [ -z "$browser" ]; then
  echo "There is no chromium to open the page in. Debian's package is: chromium"
  exit 77
fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

mkdir "$folder/hostile"
for number in 1 2 3 4 5; do
  printf '%s \342\200\256turned\342\200\254 {{data}} \033[31m \327\251\327\234\327\225\327\235 %s\n' \
    "</script><script>alert($number)</script><img src=x onerror=alert(1)> &lt;\"quotes'" \
    "<!-- \\u003c $number" >"$folder/hostile/$number.txt"
done

"$bin/moe-train" --out "$folder/run" --data "en=$text/en" --data "de=$text/de" \
  --data "hostile=$folder/hostile" --tokenizer bpe:400 --model-dim 32 --num-layers 2 --num-heads 2 \
  --context-length 64 --num-experts 4 --expert-dim 32 --steps 12 --batch-size 4 \
  --sequence-length 32 --eval-every 4 --eval-tokens 128 --threads 1 2>"$folder/log" ||
  { cat "$folder/log"; exit 1; }
"$bin/moe-report" "$folder/run" --data "en=$text/en" --data "de=$text/de" \
  --data "hostile=$folder/hostile" --tokens 1024 --min-occurrences 3 --threads 1 \
  --out "$folder/report.html"
cp "$here/report_in_browser.html" "$folder/"

# open PAGE: what the browser makes of it; what it writes to the console goes to stderr.
open() {
  timeout 100 "$browser" --headless --no-sandbox --disable-gpu --disable-dev-shm-usage \
    --user-data-dir="$folder/profile" --allow-file-access-from-files --enable-logging=stderr \
    --virtual-time-budget=20000 --dump-dom "file://$folder/$1" 2>>"$folder/console"
}

: >"$folder/console"
open report_in_browser.html >"$folder/dom"
if ! grep -q '<pre id="result">all is well</pre>' "$folder/dom"; then
  sed -n '/<pre id="result">/,/<\/pre>/p' "$folder/dom" | head -n 40
  grep CONSOLE "$folder/console" || true
  exit 1
fi
if grep CONSOLE "$folder/console"; then
  echo "The page wrote to the browser's console."
  exit 1
fi
