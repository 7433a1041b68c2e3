#!/bin/sh
# A worker that stands still for longer than the others wait is declared down, and comes back as a
# new member with fresh weights; the losses stay those of the undisturbed run.
. "$(dirname "$0")/lib.sh"

make_data_and_config
set -- --set run.iterations=400
train_whole calm "$@"

# By an emulated network, which must let through that it was declared down.
train_whole stopped "$@" \
    --chaos 'stop node=2,iteration=16,phase=backward,for=20; lossy iteration=3,for=100,loss=0.001'
expect_iterations stopped 400
expect_same loss stopped calm 1e-4
[ "$(tells stopped fenced)" -ge 1 ] || fail "the worker that stood still was not fenced"
[ "$(tells stopped joined)" -ge 1 ] || fail "the worker that stood still did not come back"
expect_nothing_left 'a worker that comes back'
