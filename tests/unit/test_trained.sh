#!/bin/sh
# What a user does with a trained snapshot: the commands on a model that this test trains in one
# process.
#
# usage: sh test_trained.sh GWTF
set -u

gwtf=$1
fixtures=$(cd "$(dirname "$0")/../oracle/fixtures/tokenizer" && pwd)
. "$(dirname "$0")/command_lib.sh"

must() {
    "$@" >out 2>err || {
        fail "$* ended with $?"
        exit 1
    }
}

# Words in an order that a small model learns some of.
awk 'BEGIN {
    split("the and of in to that he for it his with was they all not", words, " ")
    for (i = 0; i < 6000; i++) {
        state = (state * 1103 + 12345) % 65536
        printf "%s%s", words[1 + int(state / 65536 * 15)], i % 11 == 10 ? ".\n" : " "
    }
}' >text
must "$gwtf" tokenize text --output train.h5 --validation-share 0.1 --validation-output validation.h5
cat >config.cfg <<CONFIG
run = { directory = "run"; seed = 5; iterations = 30; };
model = { family = "gpt2"; layers = 3; width = 32; heads = 2; context = 32; };
data = { train = "train.h5"; validation = "validation.h5"; validation_sequences = 16; };
batch = { microbatch = 4; microbatches = 4; };
pipeline = { stages = 2; };
nodes = ( { role = "data"; }, { role = "relay"; count = 2; } );
optimizer = { learning_rate = 1e-2; warmup = 5; };
snapshot = { every = 10; keep = 0; };
backend = { threads = 1; };
CONFIG
must "$gwtf" train config.cfg --local

# value KEY: of the last JSON.
value() {
    sed -n "s/.*\"$1\": *\([-+0-9.eE]*\).*/\1/p" out
}

# near A B TOLERANCE
near() {
    awk -v a="$1" -v b="$2" -v tolerance="$3" 'BEGIN {
        apart = a - b
        if (apart < 0) apart = -apart
        exit !(a != "" && b != "" && apart <= tolerance)
    }'
}

# eval
measured=$(sed -n 's/.*"iteration": *30,.*"validation_loss": *\([0-9.e+-]*\).*/\1/p' run/metrics.jsonl)
[ -n "$measured" ] || fail 'the run has no validation loss'
good 'loss           ' eval run --data validation.h5 --sequences 16
holds 'snapshot       run/snapshots/step-000030'
holds 'measured       512 tokens: 16 sequences of 32'
holds 'bits per byte  '
good '"step": 30' eval run --data validation.h5 --sequences 16 --json
near "$(value loss)" "$measured" 1e-6 || fail "eval is not the run's $measured"
near "$(awk -v l="$(value loss)" 'BEGIN { print exp(l) }')" "$(value perplexity)" 1e-3 ||
    fail 'the perplexity is not that of the loss'
near "$(awk -v l="$(value loss)" 'BEGIN { print l / log(2) }')" "$(value bits_per_byte)" 1e-4 ||
    fail 'the bits are not those of the loss'
loss_16=$(value loss)
# 65 sequences of 32 tokens do not fill the batches that they go in.
good '"sequences": 65' eval run --data validation.h5 --sequences 65 --json
uneven=$(value loss)
good '"sequences": 65' eval run --data validation.h5 --sequences 65 --json --threads 2
near "$(value loss)" "$uneven" 1e-6 || fail 'two threads measure something else'
near "$uneven" "$loss_16" 0.2 || fail 'more sequences are of another kind'
must "$gwtf" train config.cfg --local --set run.directory=one --set batch.microbatch=1 \
    --set batch.microbatches=16 --set data.validation_sequences=65
measured=$(sed -n 's/.*"iteration": *30,.*"validation_loss": *\([0-9.e+-]*\).*/\1/p' one/metrics.jsonl)
good '"sequences": 65' eval one --data validation.h5 --sequences 65 --json
near "$(value loss)" "$measured" 1e-6 || fail "65 sequences are not the run's $measured"
# An older snapshot knows less; the whole file is the default.
good '"step": 10' eval run/snapshots/step-000010 --data validation.h5 --json
tokens=$(($(wc -c <text) - $(wc -c <text) * 9 / 10))
[ $(($(value sequences) * 32)) -eq "$(value tokens)" ] || fail 'tokens are not those of the sequences'
[ $((tokens - $(value tokens))) -le 33 ] || fail "$(value tokens) tokens of about $tokens are measured"
awk -v a="$(value loss)" -v b="$loss_16" 'BEGIN { exit !(a > b + 0.1) }' ||
    fail 'ten iterations are as good as thirty'
good 'example:' eval --help
holds '--sequences N'
bad 2 'an argument is missing' eval
bad 2 '--data is missing' eval run
bad 2 "cannot open 'absent'" eval run --data absent
bad 2 "cannot open 'none'" eval none --data validation.h5
bad 2 "--sequences is '-1'" eval run --data validation.h5 --sequences -1
bad 2 "--sequences is '1.5'" eval run --data validation.h5 --sequences 1.5
bad 2 "--threads is 'x'" eval run --data validation.h5 --threads x
bad 1 'text' eval run --data text
printf 'too short for a context of 32' >short
must "$gwtf" tokenize short --output short.h5
bad 2 'needs at least 33: give more data' eval run --data short.h5
must "$gwtf" train config.cfg --local --set run.directory=narrow --set model.vocabulary=123 \
    --set run.iterations=1
printf 'a letter that the model has no place for: { and enough of them for a sequence' >foreign
must "$gwtf" tokenize foreign --output foreign.h5
bad 2 "holds token 123, and the model's vocabulary is 123" eval narrow --data foreign.h5

# Tokens of another tokenizer: the same file, another word in it.
sed 's/bytes/words/' train.h5 >words.h5
good 'bits per byte  not known' eval run --data words.h5 --sequences 4
good '"bits_per_byte": null' eval run --data words.h5 --sequences 4 --json
holds '"tokenizer": "words"'

# generate
good 'example:' generate --help
good 'the and' generate run --prompt 'the and' --tokens 20 --temperature 0
[ "$(wc -c <out)" -eq $((7 + 20 + 1)) ] || fail 'not 20 tokens after the prompt'
[ "$(wc -l <out)" -ge 1 ] || fail 'no line break at the end'
cp out greedy
good 'the and' generate run --prompt 'the and' --tokens 20 --temperature 0 --seed 9
cmp -s out greedy || fail 'the likeliest tokens depend on the seed'
for narrow in '--top-k 1' '--top-p 1e-6'; do
    # shellcheck disable=SC2086 # two words
    good 'the and' generate run --prompt 'the and' --tokens 20 $narrow --seed 4
    cmp -s out greedy || fail "$narrow does not take the likeliest tokens"
done
good 'the and' generate run --prompt 'the and' --tokens 40 --seed 3
cp out third
good 'the and' generate run --prompt 'the and' --tokens 40 --seed 3
cmp -s out third || fail 'the same seed gives another text'
good 'the and' generate run --prompt 'the and' --tokens 40 --seed 4
cmp -s out third && fail 'another seed gives the same text'
good '"seed": 3' generate run --prompt 'the and' --tokens 40 --seed 3 --json
json 'j["prompt"] + j["text"] + "\n" == open("third", newline="").read()'
json 'bytes(j["tokens"]).decode() == j["text"] and len(j["tokens"]) == 40 and j["step"] == 30'
json 'j["tokenizer"] == "bytes" and j["temperature"] == 1 and j["tokens_per_second"] > 0'
# Of a long prompt the context's 32 tokens count.
head -c 500 text >long
tail -c 32 long >end
good '"step"' generate run --prompt-file long --tokens 40 --json
sed -n '/"tokens"/,/]/p' out >of_long
good '"step"' generate run --prompt-file - --tokens 40 --json <end
sed -n '/"tokens"/,/]/p' out >of_end
cmp -s of_long of_end || fail 'a long prompt does not go on as its end does'
# Bytes that are no UTF-8, in the prompt and, when it is hot, in the text.
printf 'caf\351 \303\251 \000 \342\202' >foreign
good '"step"' generate run --prompt-file foreign --tokens 300 --temperature 90 --json
json 'j["prompt"] == open("foreign","rb").read().decode("utf-8", "replace")'
json 'j["text"] == bytes(j["tokens"]).decode("utf-8", "replace") and "\ufffd" in j["text"]'
cp out hot.json
"$gwtf" generate run --prompt-file foreign --tokens 300 --temperature 90 >hot 2>err ||
    fail 'a hot model fails'
if command -v python3 >/dev/null; then
    python3 -c 'import json,sys
made = bytes(json.load(open("hot.json"))["tokens"])
sys.exit(open("hot", "rb").read() != open("foreign", "rb").read() + made + b"\n")' ||
        fail 'bytes do not pass as they are'
fi
# It comes while it is made: the reader has seen enough long before the end.
timeout 60 "$gwtf" generate run --prompt the --tokens 100000000 2>err | head -c 100 >out
[ "$(wc -c <out)" -eq 100 ] || fail 'text does not come while it is made'
bad 2 'there is no prompt' generate run
bad 2 'are both given' generate run --prompt x --prompt-file text
bad 2 'the prompt is empty' generate run --prompt ''
bad 2 "cannot open 'absent'" generate run --prompt-file absent
bad 2 "cannot read '.'" generate run --prompt-file .
bad 2 "cannot open 'none'" generate none --prompt x
bad 2 "--tokens is '0'" generate run --prompt x --tokens 0
bad 2 "--temperature is '-1'" generate run --prompt x --temperature -1
bad 2 "--temperature is 'nan'" generate run --prompt x --temperature nan
bad 2 "--top-k is '2.5'" generate run --prompt x --top-k 2.5
bad 2 "--top-p is '0'" generate run --prompt x --top-p 0
bad 2 "--top-p is '1.1'" generate run --prompt x --top-p 1.1
bad 2 "--seed is 'a'" generate run --prompt x --seed a
bad 2 'byte 2 of the prompt is 123' generate narrow --prompt 'a{'
must "$gwtf" train config.cfg --local --set run.directory=words --set run.iterations=1 \
    --set data.train=words.h5
bad 2 "the tokenizer is 'words', and the snapshot does not keep its files" generate words --prompt x
good 'x' generate words --prompt x --tokens 1 --tokenizer bytes
bad 2 "the tokenizer 'word' is not known" generate run --prompt x --tokenizer word
bad 2 "the model was trained with 'bytes'" generate run --prompt x --tokenizer "gpt2:$fixtures"
good 'tokenizer   bytes' inspect run
# Tokens of GPT-2's encoder: the prompt is encoded, and what comes is decoded, whole characters at a time.
must "$gwtf" tokenize text --output bpe.h5 --tokenizer "gpt2:$fixtures"
must "$gwtf" train config.cfg --local --set run.directory=bpe --set run.iterations=30 \
    --set data.train=bpe.h5 --set data.validation=
good '"step": 30' generate bpe --prompt 'the and of' --tokens 40 --seed 3 --json
json 'len(j["tokens"]) == 40 and j["tokenizer"].startswith("gpt2:") and len(j["text"]) > 60'
json 'any(w in j["text"].split() for w in ("the", "and", "of", "that", "with", "was"))'
cp out bpe.json
good 'the and of' generate bpe --prompt 'the and of' --tokens 40 --seed 3
cp out bpe.text
cp bpe.json out
json '"the and of" + j["text"] + "\n" == open("bpe.text", newline="").read()'
good '"step"' generate bpe --prompt 'the' --tokens 200 --temperature 90 --json
cp out hot.json
"$gwtf" generate bpe --prompt 'the' --tokens 200 --temperature 90 >out 2>err ||
    fail 'a hot model of gpt2 fails'
cp out hot.text
cp hot.json out
json '"the" + j["text"] + "\n" == open("hot.text", "rb").read().decode("utf-8", "replace")'
good '"step": 30' generate bpe --prompt 'the and of' --tokens 40 --seed 3 --json --tokenizer "gpt2:$fixtures"
json 'j["text"] == json.load(open("bpe.json"))["text"]'
good '"step": 30' eval bpe --data bpe.h5 --json
awk -v bits="$(value bits_per_byte)" -v loss="$(value loss)" -v tokens="$(value tokens)" -v bytes="$(wc -c <text)" '
    BEGIN { ratio = bits * bytes * log(2) / loss / tokens; exit !(ratio > 0.99 && ratio < 1.02) }' ||
    fail 'the bits are not those of the text'
# Token files that do not keep it: the hash has another name in them.
sed 's/tokenizer_sha256/tokenizer_sha25_/' bpe.h5 >kept_not.h5
must "$gwtf" train config.cfg --local --set run.directory=kept_not --set run.iterations=1 \
    --set data.train=kept_not.h5 --set data.validation=
bad 2 'does not keep its files: add --tokenizer gpt2:DIR' generate kept_not --prompt x
good 'it has no tokenizer' export kept_not -o kept_not-hf
good 'bits per byte  not known' eval kept_not --data kept_not.h5 --sequences 4
bad 2 'the model was trained with' generate bpe --prompt x --tokenizer bytes

# export
good 'example:' export --help
holds '-o, --output DIR'
good 'hf: gpt2 of step 30, 40 tensors' export run -o hf
holds 'AutoTokenizer'
[ "$(ls hf | tr '\n' ' ')" = 'config.json generation_config.json model.safetensors tokenizer.json tokenizer_config.json ' ] ||
    fail "the export is $(ls hf)"
# Every number of the file is one of the model's: 256 x 32 and 32 x 32 embeddings, a norm, blocks.
good '"has_tokenizer": true' export run/snapshots/step-000010 --output older --json
[ "$(value parameters)" -eq $((256 * 32 + 32 * 32 + 2 * 32 + 3 * (12 * 32 * 32 + 13 * 32))) ] ||
    fail "$(value parameters) parameters"
[ "$(value bytes)" -eq "$(wc -c <older/model.safetensors)" ] || fail 'the bytes are not those of the file'
cmp -s hf/model.safetensors older/model.safetensors && fail 'two steps have the same weights'
cp hf/config.json out
json 'j["model_type"] == "gpt2" and j["architectures"] == ["GPT2LMHeadModel"] and j["tie_word_embeddings"]'
json '[j[k] for k in ("n_layer", "n_embd", "n_head", "n_inner", "n_positions", "vocab_size")] == [3, 32, 2, 128, 32, 256]'
json 'j["activation_function"] == "gelu_new" and j["layer_norm_epsilon"] == 1e-5 and j["eos_token_id"] is None'
cp hf/tokenizer.json out
json 'sorted(j["model"]["vocab"].values()) == list(range(256)) and j["model"]["merges"] == []'
json 'all(chr(b) not in j["model"]["vocab"] or j["model"]["vocab"][chr(b)] == b for b in range(256))'
json 'j["model"]["vocab"]["\u0120"] == 32 and j["model"]["vocab"]["\u010a"] == 10 and j["model"]["vocab"]["\u0143"] == 173'
cp hf/generation_config.json out
json 'j["max_length"] == 32 and j["eos_token_id"] is None'
must "$gwtf" train config.cfg --local --set run.directory=untied --set model.tied_head=false \
    --set run.iterations=1
good '41 tensors' export untied -o untied-hf
grep -q '"lm_head.weight":{"dtype":"F32","shape":\[256,32\]' untied-hf/model.safetensors || fail 'the head is not there'
cp untied-hf/config.json out
json 'not j["tie_word_embeddings"]'
good 'it has no tokenizer' export words -o words-hf
[ ! -e words-hf/tokenizer.json ] || fail 'words have a tokenizer of bytes'
good 'it has no tokenizer' export narrow -o narrow-hf
bad 2 "'hf' is there already" export run -o hf
good '"step": 30' export run -o older --force --json
cmp -s hf/model.safetensors older/model.safetensors || fail '--force replaces nothing'
bad 2 'which is of no export' export run -o . --force
bad 2 'is not a directory' export run -o text --force
bad 2 '-o is missing' export run
bad 2 "option '-o' needs a value" export run -o
bad 2 "cannot make 'none/hf'" export run -o none/hf
bad 2 "cannot open 'none'" export none -o new
[ ! -e new ] || fail 'something is made of nothing'
[ -z "$(find . -name '*.tmp-*')" ] || fail 'something half-written is left'

# import
good 'example:' import --help
good 'im/snapshots/step-000000: 40 tensors' import hf -o im
holds 'model = { family = "gpt2"; layers = 3; width = 32; heads = 2; key_value_heads = 2;'
good 'gpt2 of step 0, 40 tensors' export im -o again
cmp -s hf/model.safetensors again/model.safetensors || fail 'weights that went out and came in are others'
good '"step": 0' eval im --data validation.h5 --sequences 16 --json
near "$(value loss)" "$loss_16" 1e-9 || fail 'an imported model has another loss'
good '"tokenizer": "bytes"' generate im --prompt 'the and' --tokens 20 --temperature 0 --json
json '"the and" + j["text"] + "\n" == open("greedy", newline="").read()'
bad 2 "'im' is a run already" import hf -o im
# Training goes on from it with iteration 1, in as many stages as it likes.
must "$gwtf" train config.cfg --local --set run.directory=im --set run.iterations=2 --resume
cp im/metrics.jsonl out
holds '"iteration":1,'
begun=$(sed -n 's/.*"iteration":1,.*"loss":\([0-9.]*\).*/\1/p' im/metrics.jsonl)
near "$begun" "$loss_16" 0.3 || fail "training from imported weights begins with a loss of $begun"
# A LLaMA with shared keys comes back as it was.
must "$gwtf" train config.cfg --local --set run.directory=llama --set run.iterations=2 \
    --set model.family=llama --set model.heads=4 --set model.key_value_heads=2 \
    --set model.hidden=48 --set model.rope_theta=5000 --set model.norm_epsilon=1e-6
good '30 tensors' export llama -o llama-hf
cp llama-hf/config.json out
json '[j[k] for k in ("num_attention_heads", "num_key_value_heads", "intermediate_size")] == [4, 2, 48]'
json 'j["rope_theta"] == 5000 and j["rms_norm_eps"] == 1e-6 and j["architectures"] == ["LlamaForCausalLM"]'
good '"key_value_heads": 2' import llama-hf -o llama-im --json
json 'j["model"]["rope_theta"] == 5000 and j["model"]["norm_epsilon"] == 1e-6 and not j["model"]["tied_head"]'
good '30 tensors' export llama-im -o llama-again
cmp -s llama-hf/model.safetensors llama-again/model.safetensors || fail 'the LLaMA is another one'
cmp -s llama-hf/config.json llama-again/config.json || fail 'the LLaMA has another configuration'
# The tokenizer goes along, of whichever kind, and comes back as it was.
must "$gwtf" tokenize text --output pieces.h5 --tokenizer "sentencepiece:$fixtures/llama.model"
must "$gwtf" train config.cfg --local --set run.directory=pieces --set run.iterations=1 \
    --set data.train=pieces.h5 --set data.validation=
mkdir whole
cp "$fixtures/tokenizer.json" whole
must "$gwtf" tokenize text --output whole.h5 --tokenizer gpt2:whole
must "$gwtf" train config.cfg --local --set run.directory=whole-run --set run.iterations=1 \
    --set data.train=whole.h5 --set data.validation=
# there_and_back RUN FILE FIXTURE: FILE of RUN's export is FIXTURE.
there_and_back() {
    good '"has_tokenizer": true' export "$1" -o "$1-hf" --json
    cmp -s "$1-hf/$2" "$fixtures/$3" || fail "$2 is not the one that made the tokens of $1"
    good 'tokenizer ' import "$1-hf" -o "$1-im"
    good '"has_tokenizer": true' export "$1-im" -o "$1-again" --json
    diff -r "$1-hf" "$1-again" >out || fail "$1 is another one: $(head -c 300 out)"
    good 'the' generate "$1-im" --prompt the --tokens 3
}
there_and_back bpe vocab.json vocab.json
cmp -s bpe-hf/merges.txt "$fixtures/merges.txt" || fail 'the merges are others'
there_and_back pieces tokenizer.model llama.model
there_and_back whole-run tokenizer.json tokenizer.json
# One that cannot be taken is said, and the model is imported all the same.
cp -r hf odd
printf '{"model": {"type": "Unigram"}}' >odd/tokenizer.json
must "$gwtf" import odd -o odd-im
holds 'no tokenizer'
grep -q 'the tokenizer is not taken: ' err || fail 'nothing is said of a tokenizer that is left'
# Beside the two files of GPT-2's stands that texts are divided in another way.
cp -r bpe-hf digits
sed 's/"add_prefix_space": *false/"add_prefix_space": true/' "$fixtures/tokenizer.json" >digits/tokenizer.json
cmp -s digits/tokenizer.json "$fixtures/tokenizer.json" && fail 'the fixture has no such word'
must "$gwtf" import digits -o digits-im
holds 'no tokenizer'
grep -q 'it divides texts in another way' err || fail 'a tokenizer that divides otherwise is taken'
bad 2 'it divides texts in another way' tokenize text --output digits.h5 --tokenizer gpt2:digits
# A tokenizer of more tokens than the model's.
cp -r hf many
rm many/tokenizer.json
cp "$fixtures/vocab.json" "$fixtures/merges.txt" many
must "$gwtf" import many -o many-im
holds 'no tokenizer'
grep -q 'and the model places for 256' err || fail 'a tokenizer of too many tokens is taken'
# One that a token file keeps, and that did not make it: the weights can be had all the same.
sed 's/#version: 0.2/#version: 0.3/' bpe.h5 >changed.h5
cmp -s bpe.h5 changed.h5 && fail 'the merges have no version'
must "$gwtf" train config.cfg --local --set run.directory=changed --set run.iterations=1 \
    --set data.train=changed.h5 --set data.validation=
must "$gwtf" export changed -o changed-hf
holds 'it has no tokenizer'
grep -q 'the tokenizer is not taken: ' err || fail 'nothing is said of a tokenizer that is another one'
# As the part without a head is kept, names have no prefix.
mkdir bare
cp hf/config.json bare
sed 's/"transformer\./            "/g' hf/model.safetensors >bare/model.safetensors
good '40 tensors' import bare -o bare-im
good '40 tensors' export bare-im -o bare-again
cmp -s hf/model.safetensors bare-again/model.safetensors || fail 'without prefix the weights are others'
# refuse NAME EDIT CODE TEXT: an import of hf with an edited config.json.
refuse() {
    rm -rf edited
    cp -r hf edited
    sed "$1" hf/config.json >edited/config.json
    bad "$2" "$3" import edited -o edited-im
    [ ! -e edited-im/snapshots/step-000000/manifest.cfg ] || fail 'a refused model is imported'
}
refuse 's/"n_layer": 3/"n_layer": 4/' 1 "'edited' has no tensor transformer.h.3.ln_1.weight"
refuse 's/"n_layer": 3/"n_layer": 2/' 1 'has the tensor transformer.h.2.ln_1.weight, for which'
refuse 's/"n_inner": 128/"n_inner": 64/' 1 'mlp.c_fc.weight in '
refuse 's/"n_head": 2/"n_head": 5/' 2 'model.heads is 5'
refuse 's/"n_head": 2/"n_head": 0/' 1 'has no good n_head'
refuse 's/gelu_new/relu/' 1 'has another activation_function'
refuse 's/"model_type": "gpt2"/"model_type": "bert"/' 1 "is of a 'bert'"
refuse 's/"model_type"/"type"/' 1 'does not say which model'
rm -rf edited
cp -r llama-hf edited
sed 's/"attention_bias": false/"attention_bias": true/' llama-hf/config.json >edited/config.json
bad 1 'has another attention_bias' import edited -o edited-im
: >edited/model.safetensors.index.json
cp llama-hf/config.json edited
bad 1 'are in several files' import edited -o edited-im
bad 2 "cannot open 'folder/config.json'" import folder -o edited-im
bad 2 '-o is missing' import hf

finish 86
