#!/bin/sh
# What no MPI notices: a worker that is stopped, and one that the network does not reach any more. The
# others miss it within seconds and go on, also when it is there again, to the losses of a run in which
# nothing happened.
. "$(dirname "$0")/lib.sh"

make_data_and_config
cat >"$scratch/lan.cfg" <<TOPOLOGY
topology = { regions = [ "Here" ]; within_region = { latency_ms = 1; bandwidth_mbit = 1000; }; links = (); };
TOPOLOGY

is_missed() {
    grep -q 'node 3 is down (it is silent' "$scratch/$1.log"
}

train_endlessly stopped
wait_until 60 has_reached stopped 12 || fail 'the run does not come to iteration 12'
victim=$(node_values stopped pid | sed -n 's/^node-0*3\.json //p')
kill -STOP "$victim"
wait_until 20 is_missed stopped || fail 'nobody misses a worker that is stopped'
kill -CONT "$victim"
sleep 8 # that it has failed would end the run within this time, if that ended runs
end_and_compare stopped

train_endlessly cut --set "network.emulate=$scratch/lan.cfg" \
    --set 'link_faults=( { seconds = 8.0; node = 3; kind = "cut"; } )'
wait_until 60 grep -qs 'links between node 3 and any node: cut' "$scratch/cut/events.jsonl" ||
    fail 'the link is not cut'
wait_until 20 is_missed cut || fail 'nobody misses a worker that is cut off'
end_and_compare cut
