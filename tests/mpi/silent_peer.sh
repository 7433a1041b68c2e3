#!/bin/sh
# What no MPI notices: a worker that is stopped, and one that the network does not reach any more. The
# others miss it within seconds.
. "$(dirname "$0")/lib.sh"

make_data_and_config
cat >"$scratch/lan.cfg" <<TOPOLOGY
topology = { regions = [ "Here" ]; within_region = { latency_ms = 1; bandwidth_mbit = 1000; }; links = (); };
TOPOLOGY

is_missed() {
    grep -q 'node 3 is down (it is silent' "$scratch/$1.log"
}
# end NAME: it may go on without the lost one, or have ended.
end() {
    for pid in $(processes_of_runs); do
        kill -9 "$pid" 2>/dev/null || true
    done
    wait_until 20 has_ended || fail "$1 does not end"
    wait "$group" 2>/dev/null || true
}

train_behind stopped --set run.iterations=100000
wait_until 60 has_reached stopped 12 || fail 'the run does not come to iteration 12'
victim=$(node_values stopped pid | sed -n 's/^node-0*3\.json //p')
kill -STOP "$victim"
wait_until 20 is_missed stopped || fail 'nobody misses a worker that is stopped'
end stopped

train_behind cut --set run.iterations=100000 --set "network.emulate=$scratch/lan.cfg" \
    --set 'link_faults=( { seconds = 8.0; node = 3; kind = "cut"; } )'
wait_until 60 grep -qs 'links between node 3 and any node: cut' "$scratch/cut/events.jsonl" ||
    fail 'the link is not cut'
wait_until 20 is_missed cut || fail 'nobody misses a worker that is cut off'
end cut
