"""Writes the golden files in tests/fixtures/tokenizer: python make_goldens.py [STRINGS.jsonl]

Needs the `tokenizers` package. STRINGS.jsonl has objects with `text_hex`; without it the strings
that are there are kept. Files: `strings.hex` has one text a line; `NAME.ids` the ids that
Hugging Face's library gives each of them with `NAME.json`. `trained.json` is not made here but
by `Tokenizer::train_bpe` from these strings (a test says so); this script checks that Hugging
Face's trainer finds the same tokens and merges.
"""

import json
import pathlib
import sys

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

FOLDER = pathlib.Path(__file__).parents[2] / "fixtures" / "tokenizer"
CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|" + REST
LLAMA3 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|" + REST


def select(path, max_bytes=72, max_per_group=45):
    chosen = {}
    groups = {}
    for line in open(path, encoding="utf-8"):
        case = json.loads(line)
        group = case.get("group")
        groups[group] = groups.get(group, 0) + (case["text_hex"] not in chosen)
        if len(case["text_hex"]) <= 2 * max_bytes and groups[group] <= max_per_group:
            chosen[case["text_hex"]] = None
    return list(chosen)


def split(pattern):
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def train(pre_tokenizer, texts, vocab_size, special):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(special),
        min_frequency=2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens(special)
    return tokenizer


def with_unreachable_tokens(tokenizer):
    """ignore_merges shows only with tokens that merges do not reach."""
    state = json.loads(tokenizer.to_str())
    state["model"]["ignore_merges"] = True
    dropped = state["model"]["merges"][::7]
    state["model"]["merges"] = [m for m in state["model"]["merges"] if m not in dropped]
    return Tokenizer.from_str(json.dumps(state))


def write_ids(name, tokenizer, texts):
    with open(FOLDER / f"{name}.ids", "w") as file:
        for text in texts:
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            file.write(" ".join(map(str, ids)) + "\n")


def main():
    if len(sys.argv) > 1:
        (FOLDER / "strings.hex").write_text("\n".join(select(sys.argv[1])) + "\n")
    lines = (FOLDER / "strings.hex").read_text().split("\n")[:-1]
    texts = [bytes.fromhex(line).decode() for line in lines]

    gpt2 = train(
        pre_tokenizers.ByteLevel(add_prefix_space=False), texts, 520, ["<|endoftext|>", "<|x|>"]
    )
    llama3 = train(split(LLAMA3), texts, 520, ["<|begin_of_text|>", "<|end_of_text|>"])
    llama3 = with_unreachable_tokens(llama3)
    for name, tokenizer in [("gpt2", gpt2), ("llama3", llama3)]:
        tokenizer.save(str(FOLDER / f"{name}.json"), pretty=False)
        write_ids(name, tokenizer, texts)

    ours_file = FOLDER / "trained.json"
    if not ours_file.exists():
        sys.exit("trained.json is missing: see above")
    write_ids("trained", Tokenizer.from_file(str(ours_file)), texts)
    ours = json.loads(Tokenizer.from_file(str(ours_file)).to_str())
    theirs = train(split(QWEN2), texts, len(ours["model"]["vocab"]) + 1, ["<|endoftext|>"])
    if ours != json.loads(theirs.to_str()):
        sys.exit("trained.json differs from what Hugging Face's trainer finds")


main()
