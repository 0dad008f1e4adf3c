"""Lets llama.cpp compute what moe-convert writes: compare_llama_cpp.py BIN

- Small models are trained with the programs in the folder BIN, one with a byte-level tokenizer and
  one with pieces of text and byte fallback. For several prompts llama.cpp must cut the text into the
  same tokens and write on with the same tokens as moe-generate.
- make_oracles.py writes checkpoints of every architecture that moe-convert knows as GGUF, with
  what transformers computes from them. Each must give the same logits in llama.cpp, or be refused
  for options that llama.cpp does not have; at least one of each architecture must not be refused.

Exit status 77 where packages are missing: this needs llama-cpp-python, transformers and torch.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

try:
    import llama_cpp
    import numpy
    import tokenizers
    import torch  # noqa: F401, for make_oracles.py
    import transformers  # noqa: F401
    from safetensors.numpy import load_file
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

HERE = pathlib.Path(__file__).parent
PROMPTS = ["The harbour", "  Gulls argue", "nets.\n\nThe town", "Über 12345 ガル", "the    \n  nets "]
TEXT = "The harbour wakes before the town does. Gulls argue over the nets.\n\n" * 200
NEW_TOKENS = 24
FLOAT32 = 0  # llama.cpp's number of the type, here of its cache
TOLERANCE = 1e-5  # of the largest logit


def open_model(file, context):
    return llama_cpp.Llama(
        model_path=str(file), n_ctx=context, n_threads=1, logits_all=True, verbose=False,
        type_k=FLOAT32, type_v=FLOAT32)


def continuation(model, ids):
    model.reset()
    model.eval(ids)
    new = []
    for _ in range(NEW_TOKENS):
        new.append(int(model.scores[model.n_tokens - 1].argmax()))
        model.eval(new[-1:])
    return new


def write_piece_tokenizer(file):
    """A tokenizer.json as Llama 2 has it: every two tokens whose union is a token are merged."""
    trained = tokenizers.Tokenizer(tokenizers.models.BPE())
    trained.normalizer = tokenizers.normalizers.Replace(" ", "▁")
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=120, show_progress=False)
    trained.train_from_iterator(TEXT.splitlines()[:20], trainer)
    learned = sorted(trained.get_vocab(), key=trained.get_vocab().get)
    runs = ["▁" * n for n in range(2, 5)]
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    tokens += [token for token in learned + runs if token not in tokens]
    known = set(tokens)
    merges = [
        [token[:i], token[i:]] for token in tokens for i in range(1, len(token))
        if token[:i] in known and token[i:] in known]
    special = [
        {"id": i, "content": tokens[i], "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": True} for i in range(3)]
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    decoders = [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
        {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]
    model = {
        "type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
        "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True,
        "vocab": {token: i for i, token in enumerate(tokens)}, "merges": merges}
    file.write_text(json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": special,
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"}, spaces]},
        "pre_tokenizer": None, "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": decoders}, "model": model}))
    return file


def compare_trained_model(programs, folder, tokenizer):
    folder.mkdir()
    (folder / "text.txt").write_text(TEXT)
    run = folder / "run"
    flags = "--model-dim 64 --num-layers 2 --num-heads 2 --num-experts 4 --expert-dim 32 --steps 60 "
    flags += "--context-length 64 --sequence-length 32 --batch-size 8 --threads 1"
    command = [programs / "moe-train", "--data", folder / "text.txt", "--out", run, "--tokenizer",
               tokenizer, *flags.split()]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    file = folder / "trained.gguf"
    subprocess.run([programs / "moe-convert", run, file, "--gguf", "f32"], check=True)
    model = open_model(file, context=64)
    for prompt in PROMPTS:
        ids = model.tokenize(prompt.encode(), add_bos=False)
        command = [programs / "moe-generate", run, "--prompt", prompt, "--max-new-tokens",
                   str(NEW_TOKENS), "--temperature", "0", "--json", "--threads", "1"]
        ours = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        theirs = continuation(model, ids)
        assert ours["prompt_tokens"] == len(ids), (prompt, ours["prompt_tokens"], ids)
        assert ours["ids"] == theirs[: len(ours["ids"])], (prompt, ours["ids"], theirs)
    print(f"trained model, {folder.name}: {len(PROMPTS)} continuations, equal")


def compare_logits(programs, oracle, file):
    """Returns what moe-convert said if it refused."""
    done = subprocess.run(
        [programs / "moe-convert", oracle, file, "--gguf", "f32"], capture_output=True, text=True)
    if done.returncode != 0:
        assert "computes another model" in done.stderr, (oracle.name, done.stderr)
        return done.stderr
    reference = load_file(oracle / "reference.safetensors")
    ids, expected = reference["input_ids"][0], reference["logits"][0]
    model = open_model(file, context=len(ids))
    model.eval([int(i) for i in ids])
    error = numpy.abs(model.scores[: len(ids)] - expected).max() / numpy.abs(expected).max()
    assert error < TOLERANCE, (oracle.name, error)
    return None


def known_families(programs):
    text = subprocess.run(
        [programs / "moe-convert", "--help"], check=True, capture_output=True, text=True).stdout
    words = text.split("of the architectures")[1].replace(",", " ").replace(".", " ").split()
    return [word for word in words if "_" in word or word.isalnum()]


def main():
    programs = pathlib.Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        compare_trained_model(programs, folder / "bytes", "bpe:300")
        compare_trained_model(
            programs, folder / "pieces", write_piece_tokenizer(folder / "tokenizer.json"))
        families = known_families(programs)
        oracles = folder / "oracles"
        subprocess.run(
            [sys.executable, HERE.parent / "checkpoint" / "make_oracles.py", "--out", oracles,
             "--only", *families], stdout=subprocess.DEVNULL, check=True)
        equal, refused = set(), 0
        for reference in sorted(oracles.glob("*/reference.json")):
            family = json.loads((reference.parent / "config.json").read_text())["model_type"]
            if compare_logits(programs, reference.parent, folder / "oracle.gguf") is None:
                equal.add(family)
            else:
                refused += 1
        assert equal == set(families), set(families) ^ equal
        print(f"logits of {len(equal)} architectures, equal; {refused} variants refused")


main()
