#!/bin/sh
# The link between a relay and the only data node breaks for a while: the relay is lost and comes back,
# not the data node, whom all others hear; the losses stay those of the undisturbed run.
. "$(dirname "$0")/lib.sh"

make_data_and_config
set -- --set run.iterations=400
train_whole calm --local "$@"

train_whole broken "$@" --chaos 'cut node=0,peer=2,iteration=100,for=20'
expect_iterations broken 400
expect_same loss broken calm 1e-4
[ "$(tells broken lost 2)" -ge 1 ] || fail "the relay behind the broken link was not lost"
[ "$(tells broken lost 0)" -eq 0 ] || fail "the data node was lost"
[ "$(tells broken joined)" -ge 1 ] || fail "the relay did not come back"
expect_nothing_left 'a broken link'
