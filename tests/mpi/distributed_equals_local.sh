#!/bin/sh
# Seven processes train as one does: a data node and three stages of two relays each follow the
# losses of --local within 1e-4 over 50 iterations, and replicas hold the same bits.
. "$(dirname "$0")/lib.sh"

make_data_and_config
train_whole local --local
expect_iterations local 50
train_whole distributed
expect_iterations distributed 50
expect_same loss distributed local 1e-4
expect_same gradient_norm distributed local 1e-3
expect_same validation_loss distributed local 1e-4
expect_equal_replicas distributed 7
[ "$(newest_step distributed)" -eq 50 ] || fail 'no snapshot of iteration 50'
awk 'NR == 1 && $2 < 5 { exit 1 } { last = $2 } END { exit !(last < 4) }' "$scratch/b.values" ||
    fail 'the model has not learnt anything'
expect_nothing_left 'training'
