#!/bin/sh
# All nodes of a stage die at once, or mpirun does: the run goes on by itself, from what the other
# stages held and what faults.stage_loss makes of the lost one, or from the newest snapshot, or from
# the beginning. metrics.jsonl has every iteration once, and the loss falls on.
. "$(dirname "$0")/lib.sh"

make_data_and_config
restarts=3
set -- --set snapshot.every=8 --set 'optimizer.decay="none"' --set run.iterations=30

# restart_of NAME: what the run says of its restart.
restart_of() {
    sed -n 's/^restart 1 of 3: //p' "$scratch/$1.log"
}
# falls NAME: the last five losses are below those of the five before the loss of the stage.
falls() {
    values "$1" loss | awk '
        $1 >= 7 && $1 <= 11 { before += $2 }
        $1 >= 26 { after += $2 }
        END { exit !(after < before) }' || fail "the loss of $1 does not fall"
}
chaos='kill node=2,iteration=12; kill node=5,iteration=12' # stage 2

train_whole snapshot "$@" --chaos "$chaos"
expect_iterations snapshot 30
falls snapshot
[ "$(tells snapshot stage_lost)" -eq 1 ] || fail 'events.jsonl does not tell once of the stage'
[ "$(tells snapshot restarted)" -eq 1 ] || fail 'events.jsonl does not tell once of the restart'
[ "$(tells snapshot chaos)" -eq 2 ] || fail 'the crashes came again after the restart'
grep -q '^stage 2: its last node was lost' "$scratch/snapshot.log" ||
    fail 'no line says which stage was lost'
restart_of snapshot | grep -q 'step-00001[0-2]; stage 2 is of iteration 8$' ||
    fail "it did not go on from the rest: $(restart_of snapshot)"
expect_equal_replicas snapshot 7
[ -z "$(find "$scratch/snapshot/snapshots" -name 'rest-*')" ] || fail 'the rest has not been removed'
expect_nothing_left 'a stage made from a snapshot'

train_whole neighbours "$@" --chaos "$chaos" --set 'faults.stage_loss="neighbours"'
expect_iterations neighbours 30
falls neighbours
restart_of neighbours | grep -q 'step-00001[0-2]; stage 2 is the average of its neighbours' ||
    fail "it did not go on from the neighbours: $(restart_of neighbours)"
expect_nothing_left 'a stage made from its neighbours'

train halt "$@" --chaos "$chaos" --set 'faults.stage_loss="halt"'
[ "$status" -eq 1 ] || fail "the run that was to halt ended with exit code $status, not 1"
[ "$(tells halt restarted)" -eq 0 ] || fail 'the run that was to halt went on'
grep -q "^gwtf: .*node [25] was lost.*has been written to '.*/rest-0000.*--resume" "$scratch/halt.log" ||
    fail 'no line says where the rest is and what to do'
train_whole halt "$@" --resume --set 'faults.stage_loss="neighbours"'
expect_iterations halt 30
grep -q 'resuming after iteration 1[0-2] from' "$scratch/halt.log" ||
    fail 'it was not resumed from the rest'
expect_nothing_left 'a halt'

# Two losses, one restart. No snapshot is there at the first one.
restarts=1
train twice --set run.iterations=30 --chaos "$chaos;
    kill node=1,iteration=16; kill node=4,iteration=16"
[ "$status" -eq 1 ] || fail "the run with two losses ended with exit code $status, not 1"
[ "$(tells twice restarted)" -eq 1 ] || fail 'it did not go on once'
grep -q 'restart 1 of 1: .*stage 2 is the average of its neighbours' "$scratch/twice.log" ||
    fail 'it did not go on from the neighbours where there was no snapshot'
grep -q 'restarted 1 times$' "$scratch/twice.log" || fail 'no line says that it had been restarted'
expect_nothing_left 'two losses'
restarts=3

# Whoever has pressed Ctrl+C does not want it to go on.
train_behind asked --set run.iterations=30 --chaos "$chaos"
wait_until 60 grep -qs '"event":"failed"' "$scratch/asked/events.jsonl" ||
    fail 'the loss of a stage is not told'
interrupt
wait_for_end asked 30
[ "$status" -eq 1 ] || fail "the run that was asked to stop ended with exit code $status, not 1"
[ "$(grep -c '"event":"restarted"' "$scratch/asked/events.jsonl")" -eq 0 ] ||
    fail 'the run that was asked to stop went on'
expect_nothing_left 'a stop'

# is_reached NAME STEP: that snapshot, or a later one, is whole.
is_reached() {
    [ "$(newest_step "$1")" -ge "$2" ]
}
kill_mpirun() {
    # What the command has started, whatever its name is now.
    pid=$(cat "/proc/$group/task/$group/children")
    kill -9 $pid || fail "there is no mpirun below $group: '$pid'"
}
train_behind mpirun "$@" --set run.iterations=100
wait_until 30 is_reached mpirun 16 || fail 'the run does not come to iteration 16'
kill_mpirun
wait_for_end mpirun 60
[ "$status" -eq 0 ] || fail "the run without mpirun ended with exit code $status"
expect_iterations mpirun 100
restart_of mpirun | grep -q 'from .*/step-' ||
    fail "it did not go on from a snapshot: $(restart_of mpirun)"
expect_nothing_left 'the death of mpirun'

train_behind fresh --set run.iterations=100
wait_until 30 has_reached fresh 3 || fail 'the run does not come to iteration 3'
kill_mpirun
wait_for_end fresh 60
[ "$status" -eq 0 ] || fail "the run without a snapshot ended with exit code $status"
expect_iterations fresh 100
restart_of fresh | grep -q 'from the beginning' || fail 'it did not begin anew'
expect_nothing_left 'the death of mpirun before a snapshot'
