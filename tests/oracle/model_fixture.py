# Writes fixtures/gpt2-small.bin and fixtures/gpt2-untied.bin anew: python3 tests/oracle/model_fixture.py
# (any PyTorch from 1.13 on; only tests/oracle/test_oracle.c reads the files, without PyTorch).
"""A small GPT-2 in PyTorch, in double precision, as an oracle for model/.

The model is written here from the definition of GPT-2, with PyTorch's own layers, autograd and AdamW,
so that the fixture shares no code with what it tests. Everything is computed in double precision and
stored in single: the numbers in the file are right to their last bit, or nearly.

A file is a sequence of records, all little-endian:
    u32 length of the name, the name; u32 rank, u32 dims[rank]; float32 values (row-major)
The first record, "config", holds layers, width, heads, context, vocabulary, tied, microbatch and the
number of AdamW steps; "optimizer" holds learning rate, beta1, beta2, epsilon and weight decay. Then:
weight/NAME, tokens, labels, loss (the sum over all tokens), logits, gradient/NAME (of the mean loss),
trained/NAME (weights after the steps, each with the gradient of the same microbatch).
"""
import math
import os
import struct

import torch
from torch import nn
from torch.nn import functional

# The gradient of the keys' biases is zero: what stands there is rounding, which a smaller epsilon
# would let AdamW blow up to a whole step.
LEARNING_RATE, BETAS, EPSILON, DECAY, STEPS = 1e-2, (0.9, 0.95), 1e-5, 0.1, 3


class Projection(nn.Module):
    """x W + b with W (in, out), the layout in which GPT-2's weights are kept."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs) / math.sqrt(inputs))
        self.bias = nn.Parameter(0.2 * torch.randn(outputs))

    def forward(self, x):
        return x @ self.weight + self.bias


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.c_attn = Projection(width, 3 * width)
        self.c_proj = Projection(width, width)

    def forward(self, x):
        batch, context, width = x.shape
        size = width // self.heads
        q, k, v = (
            part.reshape(batch, context, self.heads, size).transpose(1, 2)
            for part in self.c_attn(x).chunk(3, dim=-1)
        )
        scores = torch.einsum("bhtd,bhsd->bhts", q, k) / math.sqrt(size)
        future = torch.ones(context, context).triu(1).bool()
        probabilities = functional.softmax(scores.masked_fill(future, -math.inf), dim=-1)
        mixed = torch.einsum("bhts,bhsd->bhtd", probabilities, v)
        return self.c_proj(mixed.transpose(1, 2).reshape(batch, context, width))


class Mlp(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.c_fc = Projection(width, 4 * width)
        self.c_proj = Projection(4 * width, width)

    def forward(self, x):
        return self.c_proj(functional.gelu(self.c_fc(x), approximate="tanh"))


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.ln_1 = nn.LayerNorm(width, eps=1e-5)
        self.attn = Attention(width, heads)
        self.ln_2 = nn.LayerNorm(width, eps=1e-5)
        self.mlp = Mlp(width)

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    def __init__(self, config):
        super().__init__()
        width = config["width"]
        self.wte = nn.Embedding(config["vocabulary"], width)
        self.wpe = nn.Embedding(config["context"], width)
        self.h = nn.ModuleList(Block(width, config["heads"]) for _ in range(config["layers"]))
        self.ln_f = nn.LayerNorm(width, eps=1e-5)

    def forward(self, tokens):
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1]))
        for block in self.h:
            x = block(x)
        return self.ln_f(x)


class Model(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.transformer = Transformer(config)
        self.lm_head = None
        if not config["tied"]:
            self.lm_head = nn.Linear(config["width"], config["vocabulary"], bias=False)

    def forward(self, tokens):
        x = self.transformer(tokens)
        head = self.transformer.wte if self.lm_head is None else self.lm_head
        return functional.linear(x, head.weight)


def shake(model):
    """Weights far from where training starts, exact in single precision: no gradient is small."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if ".ln_" in name:
                weight += 0.2 * torch.randn_like(weight)
            if "wte" in name or "wpe" in name:
                weight *= 0.3
            weight.copy_(weight.float().double())


def record(file, name, values):
    if isinstance(values, torch.Tensor):
        values = values.detach()
    values = torch.as_tensor(values, dtype=torch.float64)
    encoded = name.encode()
    file.write(struct.pack("<I", len(encoded)) + encoded)
    file.write(struct.pack(f"<I{values.dim()}I", values.dim(), *values.shape))
    flat = values.reshape(-1).tolist()
    file.write(struct.pack(f"<{len(flat)}f", *flat))


def write_fixture(path, seed, **config):
    torch.manual_seed(seed)
    model = Model(config).double()
    shake(model)
    shape = (config["microbatch"], config["context"])
    tokens = torch.randint(config["vocabulary"], shape)
    labels = torch.randint(config["vocabulary"], shape)

    def summed_loss():
        logits = model(tokens)
        flat = logits.reshape(-1, config["vocabulary"])
        return logits, functional.cross_entropy(flat, labels.reshape(-1), reduction="sum")

    decayed = [weight for weight in model.parameters() if weight.dim() > 1]
    others = [weight for weight in model.parameters() if weight.dim() == 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}],
        lr=LEARNING_RATE,
        betas=BETAS,
        eps=EPSILON,
    )
    names = ["layers", "width", "heads", "context", "vocabulary", "tied", "microbatch"]
    with open(path, "wb") as file:
        record(file, "config", [config[name] for name in names] + [STEPS])
        record(file, "optimizer", [LEARNING_RATE, *BETAS, EPSILON, DECAY])
        for name, weight in model.named_parameters():
            record(file, "weight/" + name, weight)
        record(file, "tokens", tokens)
        record(file, "labels", labels)
        for step in range(STEPS):
            optimizer.zero_grad()
            logits, loss = summed_loss()
            (loss / tokens.numel()).backward()
            if step == 0:
                record(file, "loss", loss)
                record(file, "logits", logits)
                for name, weight in model.named_parameters():
                    record(file, "gradient/" + name, weight.grad)
            optimizer.step()
        for name, weight in model.named_parameters():
            record(file, "trained/" + name, weight)
    print(f"{path}: {os.path.getsize(path)} bytes")


if __name__ == "__main__":
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fixtures")
    os.makedirs(folder, exist_ok=True)
    small = dict(layers=2, width=40, heads=2, context=80, vocabulary=100, microbatch=2)
    write_fixture(os.path.join(folder, "gpt2-small.bin"), 1, tied=True, **small)
    untied = dict(layers=1, width=32, heads=4, context=9, vocabulary=65, microbatch=3)
    write_fixture(os.path.join(folder, "gpt2-untied.bin"), 2, tied=False, **untied)
