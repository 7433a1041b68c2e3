#!/bin/sh
# The link between a relay and the only data node breaks for a while: the relay is lost and comes back,
# not the data node, whom all others hear; the losses stay those of the undisturbed run.
. "$(dirname "$0")/lib.sh"

make_data_and_config

is_back() {
    [ "$(tells broken joined)" -ge 1 ]
}

train_endlessly broken --chaos 'cut node=0,peer=2,iteration=100,for=20'
wait_until 60 has_reached broken 100 || fail "the run does not come to iteration 100"
wait_until 60 is_back || fail "the relay did not come back"
end_and_compare broken
[ "$(tells broken lost 2)" -ge 1 ] || fail "the relay behind the broken link was not lost"
[ "$(tells broken lost 0)" -eq 0 ] || fail "the data node was lost"
