#!/bin/sh
# Two relays hold stage 1, each with room for all microbatches, one nearer than the other. The nearer
# one's link to the data node gets 20 times slower for a while: flows leave it and come back, visibly,
# and the losses are those of the undisturbed run.
. "$(dirname "$0")/lib.sh"

make_data_and_config
# 8 KB a boundary tensor: 8 ms to Near, 16 ms to Far, 160 ms to Near while it is slow.
cat >"$scratch/wan.cfg" <<TOPOLOGY
topology = {
    regions = [ "Here", "Near", "Far" ];
    within_region = { latency_ms = 1; bandwidth_mbit = 20; };
    links = ( { between = [ "Here", "Near" ]; latency_ms = 1; bandwidth_mbit = 8; },
              { between = [ "Here", "Far" ]; latency_ms = 5; bandwidth_mbit = 4; },
              { between = [ "Near", "Far" ]; latency_ms = 5; bandwidth_mbit = 4; } );
};
TOPOLOGY
nodes='nodes=( { role = "data"; region = "Here"; capacity = 4; },
    { role = "relay"; stage = 1; region = "Near"; capacity = 4; },
    { role = "relay"; stage = 1; region = "Far"; capacity = 4; },
    { role = "relay"; stage = 2; region = "Here"; count = 2; capacity = 4; } )'
fault='link_faults=( { iteration = 15; heal_after = 10; node = 0; peer = 1; factor = 20.0; } )'
train_both() {
    train_whole plain "$@" --set run.iterations=70
    train_whole slow "$@" --set run.iterations=70 --set "$fault"
}
train_both --set batch.microbatches=4 --set pipeline.stages=2 \
    --set "network.emulate=$scratch/wan.cfg" --set "$nodes"

expect_same loss slow plain 1e-4
expect_equal_replicas slow 5

# event PATTERN: the iteration of the first such event.
event() {
    sed -n "/$1/s/.*\"iteration\":\([0-9]*\).*/\1/p" "$scratch/slow/events.jsonl" | head -n 1 | grep . ||
        fail "no event like $1: $(cat "$scratch/slow/events.jsonl")"
}
left=$(event '"rerouted".*"node":0,"from":1,"to":2,')
back=$(event '"rerouted".*"node":0,"from":2,"to":1,')
[ "$left" -ge 16 ] && [ "$left" -le 17 ] || fail "flows left the slow link in iteration $left"
[ "$back" -gt 25 ] || fail "flows came back in iteration $back, before the link had healed"
"$gwtf" status "$scratch/slow" >"$scratch/status.log"
grep -q 'rerouted.*flows from node 2 go to node 1' "$scratch/status.log" || fail 'status is silent'

# mean FROM TO: seconds of an iteration.
mean() {
    values slow seconds | awk -v from="$1" -v to="$2" '
        $1 >= from && $1 <= to { sum += $2; count++ } END { printf "%.3f", sum / count }'
}
before=$(mean 8 14) slow=$(mean 15 16) away=$(mean 22 25) after=$(mean 66 70)
note "an iteration takes $before s, $slow s over the slow link, $away s beside it, $after s at last"
echo "$before $slow $away $after" | awk '{ exit !($2 > 2 * $1 && $3 < 1.7 * $1 && $4 < 1.2 * $1) }' ||
    fail 'the times are not those of flows that leave a slow link and come back'
expect_nothing_left 'the runs'
