#!/bin/sh
# The command bench as a user has it.
#
# usage: sh test_bench.sh GWTF
set -u

gwtf=$1
. "$(dirname "$0")/command_lib.sh"

cat >small.cfg <<'END'
run = { directory = "run"; iterations = 1; };
model = { family = "gpt2"; layers = 2; width = 32; heads = 2; context = 16; vocabulary = 300; };
data = { train = "none.h5"; };
batch = { microbatch = 3; microbatches = 1; };
pipeline = { stages = 1; };
nodes = ( { role = "data"; }, { role = "relay"; } );
END

good 'example:' bench --help
bad 2 'an argument is missing' bench compute
bad 2 "'weather' cannot be measured" bench weather small.cfg
bad 2 'absent.cfg' bench compute absent.cfg
bad 2 '--rounds' bench compute small.cfg --rounds 0
bad 2 '--threads' bench compute small.cfg --threads x
bad 2 'none.h5' bench compute small.cfg --set model.vocabulary=0
bad 2 'backend.precision' bench compute small.cfg --set backend.precision=float16
for precision in float32 bfloat16; do
    good '"step_seconds":' bench compute small.cfg --threads 1 --rounds 3 --json \
        --set "backend.precision=$precision"
    json "j['precision'] == '$precision' and j['threads'] == 1 and j['tokens'] == 48"
    # Two blocks of 12 C^2 + 13 C, the embeddings (300 + 16) C, and 2 C of the last norm.
    json 'j["parameters"] == 2 * (12 * 32 * 32 + 13 * 32) + 316 * 32 + 64'
    json 'abs(j["tokens_per_second"] * j["step_seconds"] / 48 - 1) < 1e-6'
    # Three passes over the matrices, and queries by keys and probabilities by values up to the token.
    json 'abs(j["gflops"] * j["step_seconds"] * 1e9 / (3 * 48 * (2 * (2 * 12 * 32 * 32 + 300 * 32) + 2 * 2 * 32 * 17)) - 1) < 1e-6'
    json 'j["share_of_peak"] is None or abs(j["share_of_peak"] * j["peak_gflops"] / j["gflops"] - 1) < 1e-6'
    json 'j["forward"]["seconds"] < j["step_seconds"] and j["optimizer"]["seconds"] > 0'
done
good 'tokens/s' bench compute small.cfg --threads 1 --rounds 1 --processor-time
good 'tokens/s' bench compute small.cfg --threads 2 --rounds 1
holds 'backward'

# memory
yes 'In the beginning God created the heaven and the earth.' | head -c 20000 >text
good 'tokens' tokenize text --output train.h5
cat >large.cfg <<'END'
run = { directory = "run"; iterations = 1; };
model = { family = "llama"; layers = 5; width = 384; heads = 6; context = 128; };
data = { train = "train.h5"; };
batch = { microbatch = 4; microbatches = 4; };
pipeline = { stages = 2; };
nodes = ( { role = "data"; }, { role = "relay"; count = 3; } );
END
bad 2 'none.h5' bench memory small.cfg
good '"all_workers_fit": true' bench memory large.cfg --json
json 'len(j["stages"]) == 3 and [s["workers"] for s in j["stages"]] == [1, 2, 1]'
json '[s["capacity"] for s in j["stages"]] == [4, 2, 4]'
json 'all(abs(s["predicted_bytes"] / s["measured_bytes"] - 1) < 0.05 for s in j["stages"])'
# Weights, gradients, two moments, a sum and three in the snapshot's copy.
json 'j["stages"][1]["measured_bytes"] > 8 * 4 * 3 * (4 + 3 * 8 / 3) * 384 * 384'
kept=$(sed -n 's/.*"measured_bytes": \([0-9]*\).*/\1/p' out | tail -1)
good 'off by' bench memory large.cfg --set backend.recompute=blocks
good '"stages":' bench memory large.cfg --json --set backend.recompute=blocks
json 'all(abs(s["predicted_bytes"] / s["measured_bytes"] - 1) < 0.05 for s in j["stages"])'
# Of four slots and two blocks: nine boundary tensors of each block and slot more, but what is shared.
json "$kept - j['stages'][2]['measured_bytes'] > 0.5 * 4 * 2 * 9 * 4 * 128 * 384 * 4"
bad 1 'this worker needs' bench memory large.cfg --set nodes.1.capacity=4096
# On a GPU, where there is an emulated one: to the byte.
emulated=$(dirname "$gwtf")/libgwtf_cuda_emulated.so
commands=19
if [ -f "$emulated" ]; then
    commands=22
    export GWTF_CUDA_LIBRARY="$emulated"
    good '"stages":' bench memory large.cfg --json --set backend.device=cuda --set batch.microbatch=1 \
        --set model.width=48 --set model.context=16
    json 'all(s["gpu"] and s["gpu_predicted_bytes"] == s["gpu_measured_bytes"] > 33e6 for s in j["stages"])'
    good 'products, weight gradients' bench compute small.cfg --rounds 1 --set backend.device=cuda
    holds 'copies from the GPU'
    good '"kernels":' bench compute small.cfg --rounds 1 --set backend.device=cuda --json
    json 'sum(k["seconds"] for k in j["kernels"]) > 0 and j["peak_bytes_per_second"] > 0'
    json '{k["name"]: k["calls"] for k in j["kernels"]}["attention, backward"] == 2'
    unset GWTF_CUDA_LIBRARY
fi
[ "$(ls)" = "$(printf 'err\nlarge.cfg\nout\nsmall.cfg\ntext\ntrain.h5')" ] || fail 'files are left behind'

# What is checked before anything is allocated: some 2.8 TB.
run train large.cfg --local --set model.layers=96 --set model.width=12288
[ "$code" -eq 1 ] || fail 'training what does not fit: not exit code 1'
grep -q '^gwtf: this model needs .* in one process.*: set a smaller' err || fail 'no word of memory'

finish $commands
