#!/bin/sh
# The same with seven processes; and a resume with another number of relays goes on as well.
. "$(dirname "$0")/lib.sh"

make_data_and_config
set -- --set run.iterations=120
train_whole whole "$@"
train_behind parts "$@"
wait_until 30 has_reached parts 20 || fail 'the run does not come to iteration 20'
interrupt
wait_for_end parts 20
stopped_at=$(last_iteration parts)
[ "$stopped_at" -lt 120 ] || fail 'the run was over before it was stopped'
[ "$(newest_step parts)" -eq "$stopped_at" ] ||
    fail "stopped after iteration $stopped_at, but the snapshot is of $(newest_step parts)"
expect_nothing_left 'Ctrl+C'
cp -r "$scratch/parts" "$scratch/fewer"

train_whole parts "$@" --resume
expect_iterations parts 120
expect_same loss parts whole 1e-5
expect_equal_replicas parts 7
expect_nothing_left 'resuming'

train_whole fewer "$@" --resume --set nodes.1.count=3
expect_iterations fewer 120
expect_same loss fewer whole 1e-5
[ "$(values fewer nodes | tail -n 1 | cut -d ' ' -f 2)" -eq 4 ] || fail 'not four nodes in fewer'
expect_nothing_left 'resuming with three relays'
