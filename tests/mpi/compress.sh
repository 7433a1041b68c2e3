#!/bin/sh
# Boundary tensors that are sent as bfloat16, or as int8: processes train as one does that passes
# them on as rounded, also when a relay is lost, and not as one that does not round.
. "$(dirname "$0")/lib.sh"

make_data_and_config
train_whole plain --local
for packing in bfloat16 int8; do
    train_whole "local-$packing" --local --set "network.compress=$packing"
    train_whole "$packing" --set "network.compress=$packing" \
        --chaos 'kill node=3,iteration=20,phase=backward'
    expect_iterations "$packing" 50
    # A sum in another order differs in its last bit, which may make another step of what is rounded.
    expect_same loss "$packing" "local-$packing" 3e-4
    expect_same validation_loss "$packing" "local-$packing" 3e-4
    expect_same loss "$packing" plain 0.02
    values "$packing" loss >"$scratch/rounded.values"
    values plain loss >"$scratch/plain.values"
    cmp -s "$scratch/rounded.values" "$scratch/plain.values" && fail "$packing rounds nothing"
    grep -q '"event":"lost"' "$scratch/$packing/events.jsonl" || fail 'nobody was lost'
done

# After 300 iterations the model has learnt as much, within a hundredth.
train_whole long-plain --local --set run.iterations=300
train_whole long-int8 --local --set run.iterations=300 --set network.compress=int8
expect_same validation_loss long-int8 long-plain 0.01
awk 'END { exit !($2 < 2.2) }' "$scratch/b.values" || fail 'the model has learnt too little to tell'
expect_nothing_left 'training'
