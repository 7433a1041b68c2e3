#!/bin/sh
# Workers of every kind die in every phase, two at one time, and those that take over from them: the
# losses stay those of the undisturbed run, and the run ends by itself, soon after its last iteration.
. "$(dirname "$0")/lib.sh"

make_data_and_config
set -- --set run.iterations=60 --set snapshot.every=20

# expect_kills NAME NODE...: these have died, and each of their deaths was noticed.
expect_kills() {
    name=$1
    shift
    for node; do
        [ "$(tells "$name" chaos "$node")" -eq 1 ] || fail "$name: node $node did not die"
        [ "$(tells "$name" lost "$node")" -ge 1 ] || fail "$name: nobody misses node $node"
    done
}
# Open MPI 4.1's mpirun waits for the dead for ever.
expect_soon_over() {
    told=$(sed -n 's/{"time":"\([^"]*\)","event":"finished".*/\1/p' "$scratch/$1/events.jsonl")
    took=$(($(date +%s) - $(date -d "$told" +%s)))
    [ "$took" -le 4 ] || fail "$1 ended $took s after its last iteration"
}

# Four relays of each stage: 1, 4, 7 and 10 are stage 1. All are needed, until some have died. 4 and 8
# are neighbours, and 5 writes the snapshot.
train_whole calm --local "$@"
train_whole relays "$@" --set nodes.1.count=12 --set nodes.1.capacity=2 --chaos '
    kill node=2,iteration=8,phase=forward; kill node=1,iteration=8,phase=backward;
    kill node=4,iteration=16,phase=backward; kill node=8,iteration=16,phase=backward;
    kill node=3,iteration=24,phase=aggregation; kill node=5,iteration=40,phase=snapshot;
    kill node=6,iteration=45; kill node=7,iteration=45'
expect_soon_over relays
expect_kills relays 1 2 3 4 5 6 7 8
expect_iterations relays 60
expect_same loss relays calm 1e-4
[ "$(newest_step relays)" -eq 60 ] || fail 'no snapshot at the end'
expect_nothing_left 'the death of relays'

# All microbatches go through 1, since 2, 3 and 4 are far away at first. 2 takes over from 1 and dies of
# it, and so does 3.
train_whole calm_chain --local "$@" --set batch.microbatches=4 --set run.iterations=20
train_whole chain "$@" --set batch.microbatches=4 --set run.iterations=20 --set 'nodes=(
    { role="data"; }, { role="relay"; stage=1; count=4; capacity=4; },
    { role="relay"; stage=2; capacity=4; }, { role="relay"; stage=3; capacity=4; } )' --chaos '
    slow node=2,latency_ms=40,heal_after=9; slow node=3,latency_ms=80,heal_after=9;
    slow node=4,latency_ms=120,heal_after=9; kill node=1,iteration=6,phase=backward;
    kill node=2,iteration=6,phase=repair; kill node=3,iteration=6,phase=repair'
expect_soon_over chain
expect_kills chain 1 2 3
expect_iterations chain 20
expect_same loss chain calm_chain 1e-4
expect_nothing_left 'the death of those that took over'

# Of data nodes: whatever the phase that one dies in, the others take over its share of the batch. The first one left
# is the recorder.
set -- "$@" --set nodes.0.count=4
train_whole calm4 --local "$@"
train_whole forward "$@" --chaos '
    kill node=0,iteration=12,phase=forward; kill node=1,iteration=20,phase=snapshot'
expect_soon_over forward
train_whole backward "$@" --chaos '
    kill node=0,iteration=12,phase=backward; kill node=1,iteration=20,phase=snapshot;
    kill node=2,iteration=45,phase=aggregation'
expect_soon_over backward
for name in forward backward; do
    expect_iterations "$name" 60
    expect_kills "$name" 0 1
    [ "$(newest_step "$name")" -eq 60 ] || fail "$name has no snapshot at the end"
done
expect_kills backward 2
for name in forward backward; do
    expect_same loss "$name" calm4 1e-4
done
expect_nothing_left 'the death of data nodes'
