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
good 'tokens/s' bench compute small.cfg --threads 2 --rounds 1
holds 'backward'
[ "$(ls)" = "$(printf 'err\nout\nsmall.cfg')" ] || fail 'files are left behind'

finish 11
