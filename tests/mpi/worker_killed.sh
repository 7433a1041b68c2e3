#!/bin/sh
# A worker that dies costs nothing but time: its microbatches are repaired, and the loss stays that of
# the undisturbed run. The last one of a stage ends a run that is not to restart with a message that
# says so, soon, and leaves nothing behind; from the last snapshot the run goes on.
. "$(dirname "$0")/lib.sh"

make_data_and_config
set -- --set snapshot.every=10 --set 'optimizer.decay="none"'
kill_node() {
    victim=$(node_values run pid | sed -n "s/^node-0*$1\.json //p")
    [ -n "$victim" ] || fail "nodes/ has no pid of node $1"
    processes | grep -qx "$victim" || fail "pid $victim of node $1 is no process of this run"
    kill -9 "$victim"
}

train_behind run "$@" --set run.iterations=100000
wait_until 30 has_reached run 12 || fail 'the run does not come to iteration 12'
kill_node 3
wait_until 30 grep -q '"lost"' "$scratch/run/events.jsonl" ||
    fail 'no event says that a node was lost'
reached=$(($(last_iteration run) + 20))
wait_until 60 has_reached run "$reached" || fail 'the run does not go on without node 3'
[ "$(values run lost | awk '{ sum += $2 } END { print sum }')" -eq 1 ] ||
    fail 'metrics.jsonl does not say that one node was lost'
[ "$(grep -c '"lost"' "$scratch/run/events.jsonl")" -eq 1 ] || fail 'the loss is not told once'

# Node 6 is the other one of node 3's stage.
kill_node 6
wait_for_end run 40
[ "$status" -eq 1 ] || fail "the run ended with exit code $status, not 1"
grep -q '^gwtf: .*node 6 was lost, the last one of its stage' "$scratch/run.log" ||
    fail 'no line says which node was lost'
rest=$(find "$scratch/run/snapshots" -path '*/rest-*/stage-*.h5' -exec basename {} \; | sort -u)
[ "$rest" = "$(printf 'stage-00.h5\nstage-01.h5\nstage-02.h5')" ] ||
    fail "the other stages' files are not there, but: $rest"
expect_nothing_left 'the death of a stage'

train_whole undisturbed "$@" --set "run.iterations=$reached"
mkdir "$scratch/first"
head -n "$reached" "$scratch/run/metrics.jsonl" >"$scratch/first/metrics.jsonl"
expect_same loss undisturbed first 1e-4

step=$(newest_step run)
[ "$step" -ge 10 ] || fail 'there is no snapshot from before'
train_whole run "$@" --resume --set run.iterations=$((step + 20)) --set 'faults.stage_loss="halt"'
expect_iterations run $((step + 20))
expect_nothing_left 'resuming'

# When all die at once, nobody is left to notice it but the command itself.
train_behind all "$@" --set run.iterations=100000
wait_until 30 has_reached all 1 || fail 'the run does not come to iteration 1'
# One command for all: survivors of the first would end by themselves before the last.
node_values all pid | sed 's/.* //' | xargs kill -9
wait_for_end all 20
[ "$status" -eq 1 ] || fail "the run without workers ended with exit code $status, not 1"
grep -q '^gwtf: all workers have died' "$scratch/all.log" || fail 'no line says that all died'
expect_nothing_left 'the death of all workers'
