# Writes the files in fixtures/ anew: python3 tests/oracle/model_fixture.py
# (any PyTorch from 1.13 on; only tests/oracle/test_oracle.c reads the files, without PyTorch).
# With --transformers it also loads each LLaMA into Hugging Face's class and compares (4.34 or newer).
"""A small GPT-2 and a small LLaMA in PyTorch, in double precision, as an oracle for model/.

The models are written here from their definitions, with PyTorch's own layers, autograd and AdamW,
so that the fixture shares no code with what it tests. Everything is computed in double precision and
stored in single: the numbers in the file are right to their last bit, or nearly.

A file is a sequence of records, all little-endian:
    u32 length of the name, the name; u32 rank, u32 dims[rank]; float32 values (row-major)
The first record, "config", holds layers, width, heads, context, vocabulary, tied, microbatch and the
number of AdamW steps, and for a LLaMA then key and value heads, hidden width, the base of the rotary
positions, and the norms' epsilon; "optimizer" holds learning rate, beta1, beta2, epsilon and weight decay. Then:
weight/NAME, tokens, labels, loss (the sum over all tokens), logits, gradient/NAME (of the mean loss),
trained/NAME (weights after the steps, each with the gradient of the same microbatch).
"""
import math
import os
import struct
import sys

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


class Gpt2(nn.Module):
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


class RmsNorm(nn.Module):
    def __init__(self, width, epsilon):
        super().__init__()
        self.epsilon = epsilon
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return self.weight * x / torch.sqrt(x.square().mean(dim=-1, keepdim=True) + self.epsilon)


def turn(x, base):
    """Rotary positions of (batch, heads, tokens, size): numbers i and i + size / 2 are one complex
    number, which token t turns by t * base ** (-2 i / size)."""
    tokens, half = x.shape[-2], x.shape[-1] // 2
    pace = base ** (-torch.arange(half, dtype=torch.float64) / half)
    angles = torch.outer(torch.arange(tokens, dtype=torch.float64), pace)
    turned = torch.complex(x[..., :half], x[..., half:]) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat([turned.real, turned.imag], dim=-1)


class GroupedAttention(nn.Module):
    def __init__(self, config):
        super().__init__()
        width, self.heads, self.key_heads = (
            config[name] for name in ("width", "heads", "key_value_heads")
        )
        self.size, self.base = width // self.heads, config["rope_theta"]
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, self.key_heads * self.size, bias=False)
        self.v_proj = nn.Linear(width, self.key_heads * self.size, bias=False)
        self.o_proj = nn.Linear(width, width, bias=False)

    def forward(self, x):
        batch, context, width = x.shape
        split = lambda part, heads: part.reshape(batch, context, heads, self.size).transpose(1, 2)
        q = turn(split(self.q_proj(x), self.heads), self.base)
        k = turn(split(self.k_proj(x), self.key_heads), self.base)
        v = split(self.v_proj(x), self.key_heads)
        # Group g of the query heads looks at key head g.
        q = q.reshape(batch, self.key_heads, -1, context, self.size)
        scores = torch.einsum("bgmtd,bgsd->bgmts", q, k) / math.sqrt(self.size)
        future = torch.ones(context, context).triu(1).bool()
        probabilities = functional.softmax(scores.masked_fill(future, -math.inf), dim=-1)
        mixed = torch.einsum("bgmts,bgsd->bgmtd", probabilities, v)
        mixed = mixed.reshape(batch, self.heads, context, self.size)
        return self.o_proj(mixed.transpose(1, 2).reshape(batch, context, width))


class GatedMlp(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.gate_proj = nn.Linear(width, hidden, bias=False)
        self.up_proj = nn.Linear(width, hidden, bias=False)
        self.down_proj = nn.Linear(hidden, width, bias=False)

    def forward(self, x):
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


class LlamaBlock(nn.Module):
    def __init__(self, config):
        super().__init__()
        width, epsilon = config["width"], config["norm_epsilon"]
        self.input_layernorm = RmsNorm(width, epsilon)
        self.self_attn = GroupedAttention(config)
        self.post_attention_layernorm = RmsNorm(width, epsilon)
        self.mlp = GatedMlp(width, config["hidden"])

    def forward(self, x):
        x = x + self.self_attn(self.input_layernorm(x))
        return x + self.mlp(self.post_attention_layernorm(x))


class LlamaTrunk(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.embed_tokens = nn.Embedding(config["vocabulary"], config["width"])
        self.layers = nn.ModuleList(LlamaBlock(config) for _ in range(config["layers"]))
        self.norm = RmsNorm(config["width"], config["norm_epsilon"])

    def forward(self, tokens):
        x = self.embed_tokens(tokens)
        for block in self.layers:
            x = block(x)
        return self.norm(x)


class Llama(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.model = LlamaTrunk(config)
        self.lm_head = None
        if not config["tied"]:
            self.lm_head = nn.Linear(config["width"], config["vocabulary"], bias=False)

    def forward(self, tokens):
        head = self.model.embed_tokens if self.lm_head is None else self.lm_head
        return functional.linear(self.model(tokens), head.weight)


def compare_with_transformers(model, tokens, logits, config):
    """Hugging Face's class, with the same weights under the same names, must give these logits."""
    from transformers import LlamaConfig, LlamaForCausalLM

    theirs = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=config["vocabulary"],
            hidden_size=config["width"],
            intermediate_size=config["hidden"],
            num_hidden_layers=config["layers"],
            num_attention_heads=config["heads"],
            num_key_value_heads=config["key_value_heads"],
            max_position_embeddings=config["context"],
            rms_norm_eps=config["norm_epsilon"],
            rope_theta=config["rope_theta"],
            tie_word_embeddings=config["tied"],
        )
    )
    weights = dict(model.state_dict())
    missing, unexpected = theirs.load_state_dict(weights, strict=False)
    assert not unexpected, unexpected
    assert set(missing) <= ({"lm_head.weight"} if config["tied"] else set()), missing
    with torch.no_grad():
        apart = (theirs(tokens).logits - logits).norm() / logits.norm()
    print(f"    relative distance from transformers' logits: {apart.item():.1e}")
    # In single precision.
    assert apart < 2e-6


def shake(model):
    """Weights far from where training starts, exact in single precision: no gradient is small."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 1 and ("ln_" in name or "norm" in name):
                weight += 0.2 * torch.randn_like(weight)
            if "wte" in name or "wpe" in name or "embed" in name:
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


def write_fixture(path, family, seed, **config):
    torch.manual_seed(seed)
    model = family(config).double()
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
    own = ["key_value_heads", "hidden", "rope_theta", "norm_epsilon"] if family is Llama else []
    with open(path, "wb") as file:
        sizes = [config[name] for name in names] + [STEPS] + [config[name] for name in own]
        record(file, "config", sizes)
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
                if family is Llama and "--transformers" in sys.argv:
                    compare_with_transformers(model, tokens, logits.detach(), config)
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
    write_fixture(os.path.join(folder, "gpt2-small.bin"), Gpt2, 1, tied=True, **small)
    untied = dict(layers=1, width=32, heads=4, context=9, vocabulary=65, microbatch=3)
    write_fixture(os.path.join(folder, "gpt2-untied.bin"), Gpt2, 2, tied=False, **untied)
    grouped = dict(layers=2, width=32, heads=4, context=70, vocabulary=50, microbatch=2)
    grouped.update(key_value_heads=2, hidden=44, rope_theta=10000.0, norm_epsilon=1e-5)
    write_fixture(os.path.join(folder, "llama-grouped.bin"), Llama, 3, tied=True, **grouped)
    untied.update(key_value_heads=4, hidden=40, rope_theta=50.0, norm_epsilon=1e-2)
    write_fixture(os.path.join(folder, "llama-untied.bin"), Llama, 4, tied=False, **untied)
