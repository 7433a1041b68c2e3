#!/bin/sh
# Two owners of data train one model: losses as with --local of the same global batch.
. "$(dirname "$0")/lib.sh"

make_data_and_config
set -- --set nodes.0.count=2 --set batch.microbatches=4
train_whole local --local "$@"
train_whole distributed "$@"
expect_iterations distributed 50
expect_same loss distributed local 1e-4
expect_same validation_loss distributed local 1e-4
expect_equal_replicas distributed 8
expect_nothing_left 'training'
