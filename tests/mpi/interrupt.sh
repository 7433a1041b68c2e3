#!/bin/sh
# Ctrl+C once: the iteration is finished, a whole snapshot written, and everybody leaves. Twice: all
# leave at once. Neither leaves anything behind.
. "$(dirname "$0")/lib.sh"

# ends_in_order NAME [OPTION...]
ends_in_order() {
    name=$1
    train_behind "$@" --set run.iterations=100000
    wait_until 30 has_reached "$name" 3 || fail "$name does not come to iteration 3"
    interrupt
    wait_for_end "$name" 20
    step=$(newest_step "$name")
    [ "$step" -eq "$(last_iteration "$name")" ] ||
        fail "the snapshot of $name is of $step, not $(last_iteration "$name")"
    "$gwtf" inspect "$(step_folder "$name" "$step")" >/dev/null 2>"$scratch/inspect.log" ||
        fail "the snapshot of $name is not whole"
    expect_nothing_left "Ctrl+C in $name"
}

# ends_at_once NAME [OPTION...]: with an iteration so long that nobody could wait for its end.
ends_at_once() {
    name=$1
    train_behind "$@" --set run.iterations=3 --set batch.microbatch=64 --set batch.microbatches=4000 \
        --set 'data.validation=""'
    wait_until 30 trains "$name" || fail "$name does not begin to train"
    sleep 2 # the launcher looks at the nodes once a second; before it knows, one Ctrl+C ends all
    interrupt
    sleep 0.3 # as a hand does: two signals at one moment are one
    ! has_ended || fail "$name did not wait for the end of its iteration"
    interrupt
    wait_for_end "$name" 5
    [ "$status" -ne 0 ] || fail "$name was cut off, and ended with exit code 0"
    has_reached "$name" 1 && fail "$name came to the end of an iteration"
    expect_nothing_left "Ctrl+C twice in $name"
}
trains() {
    grep -qs training "$scratch/$1"/nodes/*.json
}

make_data_and_config
ends_in_order local --local
ends_in_order distributed
ends_at_once distributed-twice
ends_at_once local-twice --local
