#!/usr/bin/env python3
"""
gwtf against PyTorch: tokens per second of whole training steps (forward, backward, AdamW) of the
same GPT-2 on the same processors, and the peak memory of both processes; or on the same GPU. The
two take turns; of each the median counts.

usage: python3 against_pytorch.py GWTF small|gpt2-124m|gpt2-124m-1024 float32|bfloat16 [--turns 5]
                                  [--rounds 3] [--device cpu|cuda] [--threads N]
                                  [--processor-time] [--json]

small: 6 layers, width 384, context 256, 8 sequences, vocabulary 256. gpt2-124m: context 256, 4
sequences, vocabulary 50257; gpt2-124m-1024: context 1024, 16 sequences. bfloat16 is
backend.precision here and autocast there. On a GPU PyTorch's model is compiled (torch.compile), its
attention and AdamW are its fused ones, float32 is float32 on both sides, and memory is not compared.
Where others use the machine too, --processor-time --threads 1 counts what each had of it.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

MODELS = {
    "small": dict(layers=6, width=384, heads=6, context=256, batch=8, vocabulary=256),
    "gpt2-124m": dict(layers=12, width=768, heads=12, context=256, batch=4, vocabulary=50257),
    "gpt2-124m-1024": dict(
        layers=12, width=768, heads=12, context=1024, batch=16, vocabulary=50257
    ),
}

CONFIGURATION = """
run = {{ directory = "none"; iterations = 1; }};
model = {{ family = "gpt2"; layers = {layers}; width = {width}; heads = {heads};
          context = {context}; vocabulary = {vocabulary}; }};
data = {{ train = "none.h5"; }};
batch = {{ microbatch = {batch}; microbatches = 1; }};
pipeline = {{ stages = 1; }};
nodes = ( {{ role = "data"; }}, {{ role = "relay"; }} );
"""


def train_in_pytorch(sizes, precision, rounds, threads, clock, device):
    """Seconds of each round after those that warm up."""
    import torch
    from torch import nn
    from torch.nn import functional as f

    torch.manual_seed(1)
    torch.set_num_threads(threads)
    width, heads, context = sizes["width"], sizes["heads"], sizes["context"]
    future = torch.triu(torch.full((context, context), float("-inf")), diagonal=1)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.expand, self.shrink = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
            self.gelu = nn.GELU(approximate="tanh")

        def attention(self, x):
            batch = x.shape[0]
            q, k, v = (
                part.view(batch, context, heads, width // heads).transpose(1, 2)
                for part in self.qkv(x).split(width, dim=2)
            )
            if hasattr(f, "scaled_dot_product_attention"):
                y = f.scaled_dot_product_attention(q, k, v, is_causal=True)
            else:
                scores = q @ k.transpose(2, 3) * (width // heads) ** -0.5 + future
                y = f.softmax(scores, dim=-1) @ v
            return self.out(y.transpose(1, 2).reshape(batch, context, width))

        def forward(self, x):
            x = x + self.attention(self.norm1(x))
            return x + self.shrink(self.gelu(self.expand(self.norm2(x))))

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens = nn.Embedding(sizes["vocabulary"], width)
            self.positions = nn.Embedding(context, width)
            self.blocks = nn.Sequential(*(Block() for _ in range(sizes["layers"])))
            self.norm = nn.LayerNorm(width)

        def forward(self, tokens, labels):
            x = self.tokens(tokens) + self.positions(torch.arange(context, device=device))
            logits = f.linear(self.norm(self.blocks(x)), self.tokens.weight)
            return f.cross_entropy(logits.float().flatten(0, 1), labels.flatten())

    on_gpu = device == "cuda"
    # A vocabulary of a multiple of 64 would be faster there; it is the same model here.
    model = Model().to(device)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1e-4, weight_decay=0.1, fused=True if on_gpu else None
    )
    loss_of = torch.compile(model) if on_gpu else model
    shape = (sizes["batch"], context)
    tokens = torch.randint(sizes["vocabulary"], shape, device=device)
    labels = torch.randint(sizes["vocabulary"], shape, device=device)
    seconds = []
    warm_up = 3 if on_gpu else 1
    for _ in range(rounds + warm_up):
        start = clock()
        with torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
            loss = loss_of(tokens, labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if on_gpu:
            torch.cuda.synchronize()
        seconds.append(clock() - start)
    return seconds[warm_up:]


def measure(command):
    """What a command prints as JSON, and its peak memory in MB."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    text = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit("against_pytorch: failed: " + " ".join(command))
    return json.loads(text), usage.ru_maxrss / 1000


def compare(options, sizes):
    found = {"gwtf": [], "pytorch": []}
    with tempfile.NamedTemporaryFile("w", suffix=".cfg") as configuration:
        configuration.write(CONFIGURATION.format(**sizes))
        configuration.flush()
        ours = [options.gwtf, "bench", "compute", configuration.name, "--json",
                "--rounds", str(options.rounds), "--threads", str(options.threads),
                "--set", "backend.precision=" + options.precision,
                "--set", "backend.device=" + options.device]
        theirs = [sys.executable, __file__, options.gwtf, options.model, options.precision,
                  "--device", options.device, "--rounds", str(options.rounds),
                  "--threads", str(options.threads), "--pytorch"]
        if options.processor_time:
            ours.append("--processor-time")
            theirs.append("--processor-time")
        for turn in range(options.turns):
            for name, command in (("gwtf", ours), ("pytorch", theirs)):
                result, peak_mb = measure(command)
                found[name].append((result["tokens_per_second"], peak_mb))
                print(f"turn {turn + 1}: {name} {result['tokens_per_second']:.0f} tokens/s, "
                      f"{peak_mb:.0f} MB", file=sys.stderr)
    return found


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("gwtf")
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("precision", choices=["float32", "bfloat16"])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--processor-time", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--pytorch", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = MODELS[options.model]
    if options.pytorch:
        seconds = train_in_pytorch(sizes, options.precision, options.rounds, options.threads,
                                   time.process_time if options.processor_time else time.monotonic,
                                   options.device)
        tokens = sizes["batch"] * sizes["context"]
        print(json.dumps({"tokens_per_second": tokens / statistics.median(seconds)}))
        return
    found = compare(options, sizes)
    speed = {name: statistics.median(s for s, _ in runs) for name, runs in found.items()}
    memory = {name: statistics.median(m for _, m in runs) for name, runs in found.items()}
    result = {
        "tokens_per_second": speed,
        "times_as_fast": speed["gwtf"] / speed["pytorch"],
    }
    if options.device == "cpu":
        result["peak_mb"] = memory
        result["share_of_memory"] = memory["gwtf"] / memory["pytorch"]
    if options.json:
        print(json.dumps(result))
    elif options.device == "cuda":
        print(f"{options.model}, {options.precision}, on the GPU: "
              f"gwtf {speed['gwtf']:.0f} tokens/s; PyTorch {speed['pytorch']:.0f} tokens/s: "
              f"{result['times_as_fast']:.2f} times as fast")
    else:
        print(f"{options.model}, {options.precision}, {options.threads} threads: "
              f"gwtf {speed['gwtf']:.0f} tokens/s, {memory['gwtf']:.0f} MB; "
              f"PyTorch {speed['pytorch']:.0f} tokens/s, {memory['pytorch']:.0f} MB: "
              f"{result['times_as_fast']:.2f} times as fast, "
              f"{100 * result['share_of_memory']:.0f} % of the memory")


if __name__ == "__main__":
    main()
