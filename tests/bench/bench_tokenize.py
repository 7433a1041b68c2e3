# Tokens a second of gwtf tokenize and of the package tokenizers beside it, with one thread and with two, in turns; the
# best of the rounds. A second by the clock, and a second of a processor, which counts on a machine that is busy.
# python3 tests/bench/bench_tokenize.py GWTF DIR TEXT [ROUNDS]; DIR has vocab.json and merges.txt, or encoder.json and vocab.bpe
import json
import os
import resource
import subprocess
import sys
import tempfile
import time

REFERENCE = """
import json, os, sys
from tokenizers import Tokenizer, models, pre_tokenizers
vocabulary, merges, path, output = sys.argv[1:]
lines = open(merges, encoding="utf-8").read().split("\\n")
pairs = [tuple(line.split()) for line in lines if line and not line.startswith("#version")]
tokenizer = Tokenizer(models.BPE(json.load(open(vocabulary)), pairs))
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
text = open(path, encoding="utf-8", errors="replace", newline="").read()
pieces = [text[at:at + 65536] for at in range(0, len(text), 65536)]
encode = getattr(tokenizer, "encode_batch_fast", tokenizer.encode_batch)
print(sum(len(piece.ids) for piece in encode(pieces)), "tokens")
"""


def measured(command, environment):
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.time()
    out = subprocess.run(command, env={**os.environ, **environment}, check=True, capture_output=True, text=True).stdout
    seconds, after = time.time() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    count = int(out[:out.index(" tokens")].split()[-1])
    return count / seconds, count / (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


gwtf, folder, text = sys.argv[1:4]
rounds = int(sys.argv[4]) if len(sys.argv) > 4 else 3
names = ("vocab.json", "merges.txt") if os.path.exists(folder + "/vocab.json") else ("encoder.json", "vocab.bpe")
with tempfile.TemporaryDirectory() as scratch:
    for threads in "1", "2":
        ours, theirs = [], []
        for _ in range(rounds):
            ours.append(measured([gwtf, "tokenize", text, "--tokenizer", "gpt2:" + folder, "--threads", threads,
                                  "--output", scratch + "/tokens.h5"], {}))
            theirs.append(measured([sys.executable, "-c", REFERENCE, *(f"{folder}/{name}" for name in names), text,
                                    scratch], {"RAYON_NUM_THREADS": threads,
                                               "TOKENIZERS_PARALLELISM": "false" if threads == "1" else "true"}))
        for place, what in (0, "by the clock"), (1, "of a processor"):
            a, b = (max(run[place] for run in side) for side in (ours, theirs))
            print(f"{threads} thread(s): {a / 1e6:.2f} million tokens a second {what}, tokenizers {b / 1e6:.2f}: {a / b:.1f} times")
