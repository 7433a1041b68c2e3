#!/bin/sh
# Data nodes join, are killed and leave. A batch of constant size is shared out among those that there are, and
# each takes the next of the training data's sequences: losses stay those of one process, whatever data nodes there
# are. A batch that grows with them, and data of a node's own: each sequence of the run's data is taken once, and
# a resumed run goes on after the last one.
. "$(dirname "$0")/lib.sh"

make_data_and_config

# join_data RUN LOG [OPTION...]: its node in $node, its command's pid in $joiner
join_data() {
    run=$1
    log=$2
    shift 2
    "$gwtf" join "$scratch/$run" --threads 1 "$@" >"$scratch/$log.log" 2>&1 &
    joiner=$!
    wait_until 60 has_place "$log" || fail "no place as a data node"
    node=$(place_of "$log")
    wait_until 60 joins "$run" "$node" || fail "node $node does not join"
}
last_of() {
    values "$1" "$2" | tail -n 1 | cut -d ' ' -f 2
}
batch_is() {
    [ "$(last_of "$1" microbatches)" -eq "$2" ]
}

refuses() {
    log=$1
    shift
    status=0
    "$gwtf" join "$@" >"$scratch/$log.log" 2>&1 || status=$?
    [ "$status" -eq 2 ] || fail "gwtf join $* ended with $status"
    [ "$(wc -l <"$scratch/$log.log")" -le 4 ] || fail "gwtf join $* says too much"
}

# Of two data nodes one is killed, and later the other, which was the recorder.
train_endlessly shared --set nodes.0.count=2
wait_until 60 has_reached shared 5 || fail 'the run does not come to iteration 5'
refuses wrong_role "$scratch/shared" --role mule
refuses wrong_stage "$scratch/shared" --role data --stage 1
refuses wrong_data "$scratch/shared" --data "$scratch/nothing.h5"
join_data shared join_first --role data
first=$node
kill -9 "$(pid_of shared 1)"
wait_until 60 misses shared 1 || fail 'nobody misses node 1'
join_data shared join_second --role data
second=$node
[ "$second" != "$first" ] || fail 'two nodes have one place'
wait_until 60 has_reached shared $(($(last_iteration shared) + 10)) || fail 'the run does not go on'
kill -9 "$(pid_of shared 0)"
wait_until 60 misses shared 0 || fail 'nobody misses the recorder'
wait_until 60 has_reached shared $(($(last_iteration shared) + 10)) || fail 'the run does not go on without it'
"$gwtf" leave "$scratch/shared" "$second" >"$scratch/leave.log" 2>&1 || fail "gwtf leave ended with $?"
wait_until 60 leaves shared "$second" || fail "node $second does not leave"
values shared microbatches | awk '$2 != 16 { exit 1 }' || fail 'the batch has not one size'
end_and_compare shared --set nodes.0.count=2

# The batch grows. The own data of who joins is no part of the run's.
train_endlessly grows --set 'batch.global="per-data-node"' --set run.places=2
wait_until 60 has_reached grows 5 || fail 'the run does not come to iteration 5'
join_data grows join_grows --role data
wait_until 60 batch_is grows 16 || fail 'the batch does not grow'
kill -9 "$(pid_of grows "$node")"
wait_until 60 batch_is grows 8 || fail 'the batch does not shrink'
make_text >"$scratch/own.txt"
"$gwtf" tokenize "$scratch/own.txt" --output "$scratch/own.h5" >"$scratch/tokenize_own.log" 2>&1
rm "$scratch/own.txt"
until_own=$(last_iteration grows)
join_data grows join_own --data "$scratch/own.h5"
wait_until 60 batch_is grows 16 || fail 'the batch does not grow with data of its own'
wait_until 60 has_reached grows $(($(last_iteration grows) + 5)) || fail 'the run does not go on with it'
interrupt
wait_for_end grows 30
[ "$status" -eq 0 ] || fail "the run ended with exit code $status"
reached=$(last_iteration grows)
expect_iterations grows "$reached"
# Two sequences a microbatch, eight microbatches an iteration of the run's data once the other has its own.
expected=$(values grows microbatches |
    awk -v until="$until_own" '{ sum += 2 * ($1 > until ? 8 : $2) } END { print sum }')
train_whole grows --resume --set 'batch.global="per-data-node"' --set 'optimizer.decay="none"' \
    --set "run.iterations=$((reached + 2))"
found=$(sed -n 's/.*start_sequence = \([0-9]*\).*/\1/p' "$scratch/grows/config.cfg")
[ "$found" -eq "$expected" ] || fail "the resumed run goes on at sequence $found, not $expected"
expect_nothing_left grows
exit 0
