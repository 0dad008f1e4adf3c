"""Writes the golden files in tests/fixtures/tokenizer: python make_goldens.py [STRINGS.jsonl]

Needs the `tokenizers` package. STRINGS.jsonl has objects with `text_hex`; without it the strings
that are there are kept. Files: `strings.hex` has one text a line; `NAME.ids` the ids that
Hugging Face's library gives each of them with `NAME.json`, and `NAME.decoded` the text that it
makes of these ids, as hexadecimal, where that is not always the string. `trained.json` is not made
here but by `Tokenizer::train_bpe` from these strings (a test says so); this script checks that Hugging
Face's trainer finds the same tokens and merges.
"""

import json
import pathlib
import sys

from tokenizers import (
    AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
)

FOLDER = pathlib.Path(__file__).parents[2] / "fixtures" / "tokenizer"
CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|" + REST
LLAMA3 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|" + REST
QWEN35 = CONTRACTIONS + (
    r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
O200K = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{CONTRACTIONS}?"
    rf"|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{CONTRACTIONS}?|\p{{N}}{{1,3}}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
DEEPSEEK = [  # the model's file has real line breaks in the third pattern, not escapes
    r"\p{N}{1,3}",
    "[一-龥぀-ゟ゠-ヿ]+",
    (
        r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
        r"""| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
    ).replace(r"\r\n", "\r\n"),
]
FLAGS = [  # content, lstrip, rstrip, single_word, normalized, special
    ("<left>", True, False, False, False, True),
    ("<right>", False, True, False, False, True),
    ("<both>", True, True, False, True, False),
    ("ferry", True, True, True, True, False),
    ("new york", False, False, False, True, False),
    ("  ", False, False, False, False, False),
    ("the", False, False, True, False, False),
    ("<a>", False, False, False, False, True),
    ("<a><b>", False, False, False, False, True),
    ("<a><b><c>", False, False, False, True, False),
    ("\u00c5", False, False, False, True, False),
    ("<é>", False, False, False, False, True),
]
FLAG_TEXTS = [
    "a <left> b<left>c  <left>  ", "a <right>  b<right>\n\n", " <both>  <both>x <both> ",
    "the ferry ferry, ferryboat the  the_ thé (the)", "new york  new york new\u00a0york",
    "<a><b><c><a><b><a> <c>", "A\u030angstro\u0308m \u00c5 \u212b", "<é>é <é>", "  <right>  <left>",
]


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


def split(*patterns):
    parts = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in patterns]
    parts.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
    return pre_tokenizers.Sequence(parts)


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


def add_flag_tokens(tokenizer):
    names = ("lstrip", "rstrip", "single_word", "normalized", "special")
    for content, *flags in FLAGS:
        token = AddedToken(content, **dict(zip(names, flags)))
        (tokenizer.add_special_tokens if token.special else tokenizer.add_tokens)([token])


def train_byte_fallback(texts, vocab_size):
    """Characters and merges after three special tokens and the 256 byte tokens, as in Llama 2."""
    scratch = Tokenizer(models.BPE())
    scratch.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 259, min_frequency=2, limit_alphabet=120, show_progress=False
    )
    scratch.train_from_iterator(texts, trainer)
    learned = json.loads(scratch.to_str())["model"]
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    tokens += sorted(learned["vocab"], key=learned["vocab"].get)
    tokenizer = Tokenizer(
        models.BPE(
            vocab={token: i for i, token in enumerate(tokens)},
            merges=[tuple(merge) for merge in learned["merges"]],
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    return tokenizer


def families(texts):
    neox = train(pre_tokenizers.ByteLevel(add_prefix_space=True), texts, 480, ["<|endoftext|>"])
    neox.normalizer = normalizers.NFC()
    add_flag_tokens(neox)
    yield "neox", neox
    digits = [
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.Punctuation("contiguous"),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
    ]
    yield "digits", train(pre_tokenizers.Sequence(digits), texts, 400, ["<|endoftext|>"])
    qwen35 = train(split(QWEN35), texts, 400, ["<|im_end|>"])
    qwen35.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Strip()])
    yield "qwen35", qwen35
    yield "deepseek", train(split(*DEEPSEEK), texts, 440, ["<｜end▁of▁sentence｜>"])
    yield "o200k", train(split(O200K), texts, 440, ["<|return|>"])
    llama2 = train_byte_fallback(texts, 520)
    llama2.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    add_flag_tokens(llama2)
    yield "llama2", llama2
    metaspace = train_byte_fallback(texts, 480)
    metaspace.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
    metaspace.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="first")]
    )
    add_flag_tokens(metaspace)
    yield "metaspace", metaspace


def write_ids(name, tokenizer, texts, with_decoded=False):
    encodings = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    with open(FOLDER / f"{name}.ids", "w") as file:
        for ids in encodings:
            file.write(" ".join(map(str, ids)) + "\n")
    if with_decoded:
        with open(FOLDER / f"{name}.decoded", "w") as file:
            for ids in encodings:
                file.write(tokenizer.decode(ids, skip_special_tokens=False).encode().hex() + "\n")


def main():
    if len(sys.argv) > 1:
        (FOLDER / "strings.hex").write_text("\n".join(select(sys.argv[1])) + "\n")
    (FOLDER / "flags.hex").write_text("\n".join(t.encode().hex() for t in FLAG_TEXTS) + "\n")
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

    for name, tokenizer in families(texts):
        tokenizer.save(str(FOLDER / f"{name}.json"), pretty=False)
        write_ids(name, tokenizer, texts + FLAG_TEXTS, with_decoded=True)

    ours_file = FOLDER / "trained.json"
    if not ours_file.exists():
        sys.exit("trained.json is missing: see above")
    write_ids("trained", Tokenizer.from_file(str(ours_file)), texts)
    ours = json.loads(Tokenizer.from_file(str(ours_file)).to_str())
    theirs = train(split(QWEN2), texts, len(ours["model"]["vocab"]) + 1, ["<|endoftext|>"])
    if ours != json.loads(theirs.to_str()):
        sys.exit("trained.json differs from what Hugging Face's trainer finds")


main()
