#!/bin/sh
# Processors and GPUs in one run: the losses of one process, replicas of one stage equal to the last
# bit; a node with a GPU joins; a GPU fails, and its node is lost like any other, with its reason.
#
# On the library that GWTF_CUDA_LIBRARY names, the emulated one; without it, on a real GPU, or not at
# all (77).
. "$(dirname "$0")/lib.sh"
if [ -z "${GWTF_CUDA_LIBRARY:-}" ] && ! "$gwtf" doctor --json | tr -d '\n ' |
    grep -q '"check":"gpus","verdict":"ok","found":"[0-9]'; then
    echo "$story: skipped: there is no GPU here"
    exit 77
fi

# What processes have of the GPUs, in MiB; of the emulated one nothing outlives its process.
used_of_gpus() {
    [ -n "${GWTF_CUDA_LIBRARY:-}" ] || nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits
}
are_free_again() {
    [ "$(used_of_gpus)" = "$used" ]
}
used=$(used_of_gpus)

make_data_and_config
sed -i 's/^nodes = .*/nodes = ( { role = "data"; device = "cuda"; }, { role = "relay"; count = 3; },\
          { role = "relay"; count = 3; device = "cuda"; } );/' "$scratch/config.cfg"
set -- --set 'backend.device="cpu"' --set run.iterations=10 --set 'faults.detector="auto"'
train_whole local --local "$@"
train_whole mixed "$@"
expect_same loss mixed local 1e-4
expect_same gradient_norm mixed local 1e-3
expect_same validation_loss mixed local 1e-4
expect_equal_replicas mixed 7
for node in 0 4 5 6; do
    grep -q 'computes on GPU' "$scratch/mixed/logs/node-000$node.log" ||
        fail "node $node did not compute on a GPU"
done
grep -q 'computes on GPU' "$scratch/mixed/logs/node-0001.log" &&
    fail 'node 1 computed on a GPU, and was told not to'
"$gwtf" status "$scratch/mixed" --json >"$scratch/status.json"
"$gwtf" status "$scratch/mixed" | grep -q 'GPU 0' || fail 'status does not say who computes on GPUs'
[ "$(grep -c '"gpu": 0' "$scratch/status.json") $(grep -c '"gpu": null' "$scratch/status.json")" = '4 3' ] ||
    fail 'status --json has other nodes on the GPU'
expect_nothing_left 'training on both'

# Killed in the middle of its work, a worker leaves its GPU free.
allowed=$restarts
restarts=1 # Open MPI 5 ends all when one ends
train_whole killed "$@" --chaos 'kill node=5,iteration=5,phase=backward'
restarts=$allowed
[ "$(tells killed chaos 5)" -eq 1 ] || fail 'node 5 did not die'
expect_same loss killed local 1e-4
expect_nothing_left 'the death of a worker on a GPU'
wait_until 20 are_free_again || fail "the GPUs had $used MiB in use, and now $(used_of_gpus)"

# In one process, on the GPU, and on from a snapshot that a processor wrote.
train_whole alone --local "$@" --set 'backend.device="cuda"' --set run.iterations=5
train_whole alone --local "$@" --resume --set run.iterations=10
expect_same loss alone local 1e-4

train_whole rounded "$@" --set 'backend.device="cuda"' --set 'backend.precision="bfloat16"' \
    --set nodes.1.device='"run"'
expect_same loss rounded local 0.02
expect_equal_replicas rounded 7
expect_nothing_left 'training in bfloat16'

# A node with a GPU joins a run on processors and another GPU: the weights of its stage come to it, and
# it serves. Of two GPUs it takes the one that nobody uses.
export GWTF_EMULATED_DEVICES=2
cp "$scratch/config.cfg" "$scratch/both.cfg"
sed -i 's/^nodes = .*/nodes = ( { role = "data"; }, { role = "relay"; count = 3; },/
        s/{ role = "relay"; count = 3; device = "cuda"; }/{ role = "relay"; device = "cuda"; }/' \
    "$scratch/config.cfg"
train_endlessly joined --set 'backend.device="cpu"'
wait_until 60 has_reached joined 3 || fail 'the run does not come to iteration 3'
"$gwtf" join "$scratch/joined" --threads 1 --stage 2 --device cuda >"$scratch/join.log" 2>&1 &
joiner=$!
wait_until 60 has_place join || fail 'it gets no place'
node=$(place_of join)
wait_until 60 joins joined "$node" || fail "node $node does not join"
wait_until 90 has_reached joined $(($(last_iteration joined) + 10)) || fail 'the run does not go on with it'
grep -q 'computes on GPU' "$scratch/joined/logs/node-$(printf '%04u' "$node").log" ||
    fail 'it does not compute on a GPU'
if [ -n "${GWTF_CUDA_LIBRARY:-}" ]; then
    grep -h '"gpu"' "$scratch/joined/nodes/"*.json | sort | tr -d ' \n' >"$scratch/gpus"
    [ "$(cat "$scratch/gpus")" = '"gpu":0,"gpu":1,' ] || fail "GPUs in use: $(cat "$scratch/gpus")"
fi
end_and_compare joined --set 'backend.device="cpu"'
wait "$joiner" || fail "gwtf join ended with $?"
unset GWTF_EMULATED_DEVICES

if [ -z "${GWTF_CUDA_LIBRARY:-}" ]; then
    note 'a GPU that fails is left out: only an emulated one does so when asked'
    exit 0
fi
# Of a GPU that is almost full few microbatches are taken, and of one that is full none at all; whoever
# insists on it hears what it would take. Each of the five workers needs 33.6 MB for the library, and
# some 0.8 MB for a microbatch.
sed -i 's/ device = "cuda";//' "$scratch/config.cfg"
set -- --set 'backend.device="cuda"' --set run.iterations=2 --set batch.microbatch=16
GWTF_EMULATED_MEMORY=400000000 train_whole roomy "$@"
GWTF_EMULATED_MEMORY=205000000 train_whole narrow "$@"
slots_of() {
    sed -n 's/.* \([0-9]*\) slots.*/\1/p' "$scratch/$1/logs/node-0001.log"
}
[ "$(slots_of narrow)" -lt "$(slots_of roomy)" ] ||
    fail "$(slots_of roomy) slots, and as many with less memory"
expect_same loss narrow roomy 1e-4
GWTF_EMULATED_MEMORY=2000000 train_whole full "$@" --set 'backend.device="auto"'
expect_same loss full roomy 1e-4
grep -q 'computes on processors instead' "$scratch/full.log" || fail 'nobody is told of the full GPU'
if GWTF_EMULATED_MEMORY=2000000 "$gwtf" train "$scratch/config.cfg" "$@" \
    --set "run.directory=\"$scratch/insists\"" >"$scratch/insists.log" 2>&1; then
    fail 'who insists on a full GPU trains all the same'
fi
grep -q 'of its GPU' "$scratch/insists.log" || fail 'who insists is not told what is missing'
expect_nothing_left 'full GPUs'
set -- --set 'backend.device="cpu"' --set run.iterations=10

# Some 40 launches for each microbatch: the one GPU of the run fails on its way.
sed 's/^nodes = .*/nodes = ( { role = "data"; }, { role = "relay"; count = 5; },/
        s/{ role = "relay"; count = 3; device = "cuda"; }/{ role = "relay"; device = "cuda"; }/' \
    "$scratch/both.cfg" >"$scratch/config.cfg"
restarts=1
GWTF_EMULATED_FAILS_AT=400 train_whole failing "$@"
expect_same loss failing local 1e-4
grep '"gpu_failed"' "$scratch/failing/events.jsonl" | grep -q 'uncorrectable ECC' ||
    fail 'no event says what the GPU had'
"$gwtf" status "$scratch/failing" >"$scratch/status.log"
grep -q 'phase *finished' "$scratch/status.log" || fail 'the run does not count as finished'
expect_nothing_left 'the loss of a GPU'
