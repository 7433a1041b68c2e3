#!/bin/sh
# A worker that stands still for longer than the others wait is declared down, and comes back as a
# new member with fresh weights; the losses stay those of the undisturbed run.
. "$(dirname "$0")/lib.sh"

make_data_and_config

is_back() {
    [ "$(tells stopped joined)" -ge 1 ]
}

# By an emulated network, which must let through that it was declared down.
train_endlessly stopped \
    --chaos 'stop node=2,iteration=16,phase=backward,for=20; lossy iteration=3,for=100,loss=0.001'
wait_until 60 has_reached stopped 10 || fail "the run does not come to iteration 10"
wait_until 60 is_back || fail "the worker that stood still did not come back"
end_and_compare stopped
[ "$(tells stopped fenced)" -ge 1 ] || fail "the worker that stood still was not fenced"
