# Writes fixtures/training_curve.txt anew: python3 tests/oracle/training_curve.py build/release/bin/gwtf
# (any PyTorch from 1.13 on, and Debian's bible-kjv, as tests/oracle/training_curve.sh)
"""PyTorch trains the GPT-2 of training_curve.cfg from GWTF's initial weights, in its order of data.

GWTF gives the initial weights alone: a run of one iteration at a learning rate that changes none,
exported. The model, its gradients, AdamW and clipping are PyTorch's, the schedule and the order of
data are written here from README.md. All is in single precision. The file begins with the SHA-256 of
the text; then it has a line for each 100 iterations: the iteration, the mean training loss of the 20
iterations up to it, and the validation loss after it.
"""
import hashlib
import json
import math
import os
import subprocess
import sys
import tempfile

import torch
from torch.nn import functional

import model_fixture

CONFIG = {"layers": 2, "width": 64, "heads": 4, "context": 64, "vocabulary": 256, "tied": True}
ITERATIONS, WARMUP, PEAK, SEQUENCES, VALIDATION = 500, 30, 3e-3, 8, 128
EVERY, AVERAGED = 100, 20
BETAS, EPSILON, DECAY, CLIP = (0.9, 0.95), 1e-8, 0.1, 1.0


def rate(step):
    if step < WARMUP:
        return PEAK * step / WARMUP
    left = 0.5 * (1 + math.cos(math.pi * (step - WARMUP) / (ITERATIONS - WARMUP)))
    return PEAK / 10 + (PEAK - PEAK / 10) * left


def initial_weights(gwtf, directory):
    """What GWTF begins with, by name."""
    config = os.path.join(os.path.dirname(os.path.abspath(__file__)), "training_curve.cfg")
    still = ["run.iterations=1", "optimizer.learning_rate=1e-30", "data.validate_every=0"]
    sets = [word for change in still for word in ("--set", change)]

    def run(*words):
        subprocess.run([gwtf, *words], cwd=directory, check=True, stdout=subprocess.DEVNULL)

    run("tokenize", "text", "--output", "train.h5", "--validation-share", "0.05",
        "--validation-output", "validation.h5")
    run("train", config, "--local", *sets)
    run("export", "run", "-o", "exported")
    with open(os.path.join(directory, "exported/model.safetensors"), "rb") as file:
        data = file.read()
    start = 8 + int.from_bytes(data[:8], "little")
    weights = {}
    for name, tensor in json.loads(data[8:start]).items():
        if name != "__metadata__":
            begin, end = (start + offset for offset in tensor["data_offsets"])
            numbers = torch.frombuffer(bytearray(data[begin:end]), dtype=torch.float32)
            weights[name] = numbers.reshape(tensor["shape"])
    return weights


def loss_of(model, tokens, starts):
    context = CONFIG["context"]
    inputs = torch.stack([tokens[start : start + context] for start in starts])
    labels = torch.stack([tokens[start + 1 : start + context + 1] for start in starts])
    return functional.cross_entropy(model(inputs).reshape(-1, CONFIG["vocabulary"]), labels.reshape(-1))


def train(model, text):
    """A line for each EVERY iterations."""
    context, cut = CONFIG["context"], len(text) - int(len(text) * 0.05)
    tokens = torch.tensor(list(text[:cut]))
    held_back = torch.tensor(list(text[cut:]))
    slack = len(held_back) - 1 - VALIDATION * context
    measured = [i * context + slack * i // VALIDATION for i in range(VALIDATION)]
    matrices = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() == 1]
    groups = [{"params": matrices, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=PEAK, betas=BETAS, eps=EPSILON)
    losses = []
    for step in range(1, ITERATIONS + 1):
        first = (step - 1) * SEQUENCES
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        optimizer.zero_grad()
        loss = loss_of(model, tokens, [(first + i) * context for i in range(SEQUENCES)])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        losses.append(loss.item())
        if step % EVERY == 0:
            with torch.no_grad():
                validation = loss_of(model, held_back, measured).item()
            mean = sum(losses[-AVERAGED:]) / AVERAGED
            yield f"{step} {mean:.6f} {validation:.6f}"


def main():
    torch.set_num_threads(1)
    gwtf = os.path.abspath(sys.argv[1])
    text = subprocess.run(["bible", "-f", "gen1:1-rev22:21"], stdin=subprocess.DEVNULL, check=True,
                          stdout=subprocess.PIPE).stdout
    model = model_fixture.Gpt2(CONFIG)
    with tempfile.TemporaryDirectory() as directory:
        with open(os.path.join(directory, "text"), "wb") as file:
            file.write(text)
        weights = initial_weights(gwtf, directory)
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not missing and not unexpected, (missing, unexpected)
    lines = [f"text {hashlib.sha256(text).hexdigest()}"]
    for line in train(model, text):
        print(line, flush=True)
        lines.append(line)
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fixtures", "training_curve.txt")
    with open(path, "w", encoding="ascii") as file:
        file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
