# Writes fixtures/tokenizer/ anew: python3 tests/oracle/tokenizer_fixture.py
# (needs the packages tokenizers, regex and sentencepiece; only tests/oracle/test_tokenizer.c reads the files, without
# them). Made with tokenizers 0.22, regex 2025 and sentencepiece 0.2 on Python 3.11, whose Unicode is 14.0.
"""Small tokenizers of each kind, and what the packages that are taken as reference make of a text with them.

The text is 250 pieces of about 4 KiB, drawn from words of many scripts, from every character that Unicode assigns, from
long runs of one character and from all kinds of white space. test_tokenizer.c draws the same text from words.txt and
characters.txt, so that it need not be kept. A piece's tokens are kept as their number and a hash (FNV-1a over the ids
as uint32, little-endian).

GPT-2: a byte-level BPE that is trained here. Its tokens come from the package tokenizers, and must be those of the
rules of GPT-2's own encoder, which are written down here once more, with the package regex.
SentencePiece: a BPE model with byte fallback, as LLaMA's, and a unigram model.
"""
import io
import json
import os
import struct
import unicodedata

import regex
import sentencepiece
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fixtures", "tokenizer")
PIECES, PIECE_BYTES = 250, 4096
MASK = (1 << 64) - 1
WORDS = """the and of in to that he for it his with was they all not shall unto lord god said which is be from
beginning created heaven earth without form void darkness upon face deep spirit moved waters let there light
don't we'll I'm they've you'd it's she's 'tis o'clock DON'T WE'LL rock'n'roll x'y '' 's 't 're
Grüße naïve café Straße œuvre España niño Ångström Łódź İstanbul dağ ñandú
привет мир Москва хорошо Ελλάδα καλημέρα שלום עולם مرحبا بالعالم नमस्ते दुनिया สวัสดี 안녕하세요 세계
こんにちは 世界 東京 北京 中文 日本語 Việt Nam Türkçe ქართული հայերեն አማርኛ
1 42 2024 3.14 1,000,000 ٣٤٥ ४२ ½ ² Ⅷ 0x7f 100% a1b2 e=mc²
... -- — “quoted” «guillemets» (parenthesis) [brackets] {braces} <tag> && || != == ;; #hash @at $5 €9 ✓ → ∑ √ 🙂 👩‍👩‍👧 🏳️‍🌈 é́ ñ
""".split()
SPACES = [" ", "  ", "\n", "\n\n", "\t", "\r\n", "\x85", "\xa0", "\u2003", "\u3000", "\u2028", "    ", "\x1c", "\u180e",
          "\u200b", "\u1680", "\x0b", "\x0c", "\ufeff", "\u202f"]
RUNS = "aé北🙂1٣'.-\n "


class Draw:
    """gwtf_random_at of share/base/random.c, counter after counter."""

    def __init__(self, key):
        self.key, self.counter = key, 0

    def below(self, bound):
        z = (self.key + (self.counter + 1) * 0x9E3779B97F4A7C15) & MASK
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        self.counter += 1
        return (z ^ (z >> 31)) % bound


def ranges_of_characters():
    ranges = []
    for code in range(1, 0x110000):
        # What is not assigned may become a letter in another version; private use and surrogates are left out as well.
        if unicodedata.category(chr(code)) in ("Cn", "Co", "Cs"):
            continue
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return ranges


def piece_of_text(index, ranges):
    draw, parts, size = Draw(index), [], 0
    while size < PIECE_BYTES:
        kind = draw.below(100)
        if kind < 60:
            part = WORDS[draw.below(len(WORDS))]
        elif kind < 80:
            part = ""
            for _ in range(1 + draw.below(6)):
                first, last = ranges[draw.below(len(ranges))]
                part += chr(first + draw.below(last - first + 1))
        elif kind < 84:
            part = RUNS[draw.below(len(RUNS))] * (1 + draw.below(150))
        else:
            part = ""
        part += SPACES[draw.below(len(SPACES))] if draw.below(100) < 30 else " " if draw.below(4) > 0 else ""
        parts.append(part)
        size += len(part.encode())
    return "".join(parts)


def summary(ids):
    value = 0xCBF29CE484222325
    for byte in struct.pack(f"<{len(ids)}I", *ids):
        value = ((value ^ byte) * 0x100000001B3) & MASK
    return f"{len(ids)} {value:016x}"


def write(name, text):
    with open(os.path.join(FOLDER, name), "w", encoding="utf-8", newline="") as file:
        file.write(text)


def train_gpt2(texts):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=900, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
                                  show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    merges = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in model["merges"]]
    vocabulary = model["vocab"]
    vocabulary["<|endoftext|>"] = len(vocabulary)
    write("vocab.json", json.dumps(vocabulary))
    write("merges.txt", "#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    plain = Tokenizer(models.BPE(vocabulary, merges))
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    write("tokenizer.json", plain.to_str())
    return plain, vocabulary, merges


class RulesOfGpt2:
    """Split by the pattern; of a piece's bytes merge all pairs of the lowest rank, from left to right, then again."""

    PATTERN = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")

    def __init__(self, vocabulary, merges):
        printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
        others = [byte for byte in range(256) if byte not in printable]
        self.letters = {byte: chr(byte) for byte in printable}
        self.letters.update({byte: chr(0x100 + place) for place, byte in enumerate(others)})
        self.vocabulary, self.known = vocabulary, {}
        self.ranks = {pair: rank for rank, pair in enumerate(merges)}

    def merged(self, piece):
        word = [self.letters[byte] for byte in piece.encode()]
        while len(word) > 1:
            pairs = {pair for pair in zip(word, word[1:]) if pair in self.ranks}
            if not pairs:
                break
            left, right = min(pairs, key=self.ranks.__getitem__)
            at, made = 0, []
            while at < len(word):
                both = word[at:at + 2] == [left, right]
                made.append(left + right if both else word[at])
                at += 2 if both else 1
            word = made
        return [self.vocabulary[part] for part in word]

    def encode(self, text):
        ids = []
        for piece in self.PATTERN.findall(text):
            if piece not in self.known:
                self.known[piece] = self.merged(piece)
            ids += self.known[piece]
        return ids


def train_sentencepiece(name, texts, **options):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([line for text in texts for line in text.split("\n") if line.strip()]),
        model_writer=model, vocab_size=700, character_coverage=0.99, normalization_rule_name="identity",
        minloglevel=2, num_threads=1, hard_vocab_limit=False, **options)
    with open(os.path.join(FOLDER, name), "wb") as file:
        file.write(model.getvalue())
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def main():
    os.makedirs(FOLDER, exist_ok=True)
    ranges = ranges_of_characters()
    write("words.txt", "".join(word + "\n" for word in WORDS))
    write("characters.txt", "".join(f"{first:x} {last:x}\n" for first, last in ranges))
    pieces = [piece_of_text(index, ranges) for index in range(PIECES)]
    training = [" ".join(WORDS[Draw(1000 + line).below(len(WORDS)) - place] for place in range(12)) for line in range(3000)]
    gpt2, vocabulary, merges = train_gpt2(training)
    rules = RulesOfGpt2(vocabulary, merges)
    lines = [f"text {sum(len(piece.encode()) for piece in pieces)}"]
    for piece in pieces:
        ids = gpt2.encode(piece).ids
        assert ids == rules.encode(piece), "the references differ"
        lines.append("gpt2 " + summary(ids))
    whole = gpt2.encode("".join(pieces)).ids
    assert whole == rules.encode("".join(pieces)), "the references differ"
    lines.append("gpt2-whole " + summary(whole))
    llama = train_sentencepiece("llama.model", training, model_type="bpe", byte_fallback=True,
                                remove_extra_whitespaces=False, split_digits=True,
                                allow_whitespace_only_pieces=True)
    unigram = train_sentencepiece("unigram.model", training, model_type="unigram")
    for name, model in (("llama", llama), ("unigram", unigram)):
        for piece in pieces[:40]:
            lines.append(f"{name} " + summary(model.encode(piece)))
        lines.append(f"{name}-whole " + summary(model.encode("".join(pieces))))
    write("expected.txt", "\n".join(lines) + "\n")


main()
