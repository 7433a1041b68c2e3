#!/bin/sh
# The bootstrap only watches: kill -9 in mid-run, and training ends as if nothing had been.
. "$(dirname "$0")/lib.sh"

make_data_and_config
set -- --set run.iterations=600
train_whole local --local "$@"
train_behind distributed "$@"
wait_until 30 has_reached distributed 5 || fail 'the run does not come to iteration 5'
bootstrap=$(processes_named gwtf-bootstrap)
[ -n "$bootstrap" ] || fail 'there is no process gwtf-bootstrap'
kill -9 "$bootstrap"
killed_at=$(last_iteration distributed)
wait_for_end distributed 60
[ "$killed_at" -lt 600 ] || fail 'the run was over before the bootstrap was killed'
[ "$status" -eq 0 ] || fail "the run ended with exit code $status"
expect_iterations distributed 600
expect_same loss distributed local 1e-4
expect_equal_replicas distributed 7
[ "$(newest_step distributed)" -eq 600 ] || fail 'no snapshot at the end'
expect_nothing_left 'the death of the bootstrap'
