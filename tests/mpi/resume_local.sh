#!/bin/sh
# A run in one process that was stopped by Ctrl+C and resumed has the losses of one that was not.
. "$(dirname "$0")/lib.sh"

make_data_and_config
set -- --local --set run.iterations=150
train_whole whole "$@"
train_behind parts "$@"
wait_until 30 has_reached parts 20 || fail 'the run does not come to iteration 20'
interrupt
wait_for_end parts 20
stopped_at=$(last_iteration parts)
[ "$stopped_at" -lt 150 ] || fail 'the run was over before it was stopped'
[ "$(newest_step parts)" -eq "$stopped_at" ] ||
    fail "stopped after iteration $stopped_at, but the snapshot is of $(newest_step parts)"
expect_nothing_left 'Ctrl+C'
train_whole parts "$@" --resume
expect_iterations parts 150
expect_same loss parts whole 1e-5
expect_nothing_left 'resuming'
