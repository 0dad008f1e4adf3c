"""Compares our tokenizers with Hugging Face's: compare_with_huggingface.py BASE_TESTS

BASE_TESTS is the program moe_base_tests. It writes tokenizers and encodings of all assigned
characters and some thousand texts to a temporary folder; here the `tokenizers` package loads the same files
and must find the same ids and the same text from them. Exit status 77 where there is no such
package (ctest: SKIP_RETURN_CODE).

    compare_with_huggingface.py --file TOKENIZER.json ENCODINGS.tsv

compares one file; a line of ENCODINGS.tsv is the text as hexadecimal UTF-8, a tab, and the ids.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

try:
    from tokenizers import Tokenizer
except ImportError:
    print("skipped: there is no Python package tokenizers")
    sys.exit(77)


def compare(tokenizer_file, encodings_file):
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    # Where every token is text of its own, U+FFFD stands for what is unknown; normalisers and
    # prefixes change the text.
    state = json.loads(tokenizer.to_str())
    is_lossless = (
        tokenizer.model.unk_token is None
        and tokenizer.normalizer is None
        and '"add_prefix_space": true' not in json.dumps(state["pre_tokenizer"])
    )
    texts, ours = [], []
    for line in open(encodings_file):
        text_hex, _, ids = line.rstrip("\n").partition("\t")
        texts.append(bytes.fromhex(text_hex).decode())
        ours.append([int(id) for id in ids.split()])
    if not texts:
        sys.exit(f"{encodings_file}: no encodings")
    theirs = [e.ids for e in tokenizer.encode_batch(texts, add_special_tokens=False)]
    decoded = tokenizer.decode_batch(ours, skip_special_tokens=False)
    for text, ids, their_ids, their_text in zip(texts, ours, theirs, decoded):
        if ids != their_ids:
            sys.exit(f"{tokenizer_file.name}: {text!r}: ours {ids}, Hugging Face's {their_ids}")
        if is_lossless and their_text != text:
            sys.exit(f"{tokenizer_file.name}: {text!r} decodes to {their_text!r}")
    print(f"{tokenizer_file.name}: {len(texts)} texts, identical ids")


def main():
    if len(sys.argv) == 4 and sys.argv[1] == "--file":
        compare(pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]))
        return
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.argv[1], "[.huggingface]"],
            env={**os.environ, "MOE_PARITY_FOLDER": folder},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        for file in sorted(pathlib.Path(folder).glob("*.json")):
            compare(file, file.with_suffix(".tsv"))


main()
