#!/bin/sh
# Six nodes join at once a run of one relay a stage, and two more one by one while weights take seconds to come:
# who joins is killed over it, and who gives the weights, and both at once. Losses as without.
. "$(dirname "$0")/lib.sh"

make_data_and_config

join_behind() {
    log=$1
    to=$2
    shift 2
    "$gwtf" join "$scratch/$to" --threads 1 "$@" >"$scratch/$log.log" 2>&1 &
}
# Some of its weights are there, and not all.
copies() {
    grep -qs 'weights and moments' "$scratch/slow/logs/node-$(printf %04d "$1").log"
}

train_endlessly burst --set nodes.1.count=3
wait_until 60 has_reached burst 5 || fail 'the run does not come to iteration 5'
for number in 1 2 3 4 5 6; do
    join_behind "burst_$number" burst
done
wait_until 90 nodes_now burst 10 || fail 'not all six are there'
for stage in 1 2 3; do
    [ "$(cat "$scratch"/burst_*.log | grep -c "in stage $stage")" -eq 2 ] || fail "stage $stage does not get two of six"
done
end_and_compare burst

cat >"$scratch/wan.cfg" <<TOPOLOGY
topology = { regions = [ "Here" ]; within_region = { latency_ms = 2; bandwidth_mbit = 20; }; links = (); };
TOPOLOGY
set -- --set model.width=192
train_endlessly slow --set "network.emulate=$scratch/wan.cfg" "$@"
wait_until 60 has_reached slow 2 || fail 'the slow run does not come to iteration 2'
# comes NAME STAGE: as $node, whose weights are on their way.
comes() {
    join_behind "$1" slow --stage "$2"
    wait_until 60 has_place "$1" || fail "$1 gets no place"
    node=$(place_of "$1")
    wait_until 60 copies "$node" || fail "no weights come to node $node"
}
comes doomed 1
kill -9 "$(pid_of slow "$node")"
joins slow "$node" && fail "node $node has joined before"
wait_until 60 nodes_now slow 7 || fail 'the run does not go on without who was killed over its weights'
comes patient 1
kill -9 "$(pid_of slow 1)"
joins slow "$node" && fail "node $node has joined before"
wait_until 60 joins slow "$node" || fail "node $node does not join from the other node of its stage"
comes doomed_too 2
kill -9 "$(pid_of slow "$node")" "$(pid_of slow 2)"
joins slow "$node" && fail "node $node has joined before"
wait_until 60 nodes_now slow 6 || fail 'the run does not go on without both'
[ "$(tells slow lost)" -eq 4 ] || fail "$(tells slow lost) nodes are missed, not four"
end_and_compare slow "$@"
