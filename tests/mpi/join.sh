#!/bin/sh
# Nodes join a run that trains: each gets a stage, its weights, and serves. Those that are killed cost the others
# what any node does, and their places are taken again; those that are told to leave do so. Losses as without.
# Under Open MPI 4.1 each is an island, an mpirun of its own; under Open MPI 5 a node of the run starts it.
. "$(dirname "$0")/lib.sh"

make_data_and_config

# join_behind LOG [OPTION...]: pid in $joiner
join_behind() {
    log=$1
    shift
    "$gwtf" join "$scratch/joined" --threads 1 "$@" >"$scratch/$log.log" 2>&1 &
    joiner=$!
}

"$gwtf" join "$scratch/nothing" >/dev/null 2>&1 && fail 'nothing can be joined'
train_endlessly joined --set nodes.1.count=4
wait_until 60 has_reached joined 5 || fail 'the run does not come to iteration 5'

# Stages 1 to 3 have 2, 1 and 1 nodes, and each four places: 5 to 8, 9 to 12, 13 to 16.
join_behind join_any
any=$joiner
wait_until 60 has_place join_any || fail 'the first one gets no place'
node=$(place_of join_any)
wait_until 60 joins joined "$node" || fail "node $node does not join"
join_behind join_first --stage 1
first=$joiner
wait_until 60 has_place join_first || fail 'no place in stage 1'
doomed=$(place_of join_first)
[ "$doomed" -ge 5 ] && [ "$doomed" -le 8 ] || fail "node $doomed is none of stage 1"
wait_until 60 joins joined "$doomed" || fail "node $doomed does not join"
wait_until 60 nodes_now joined 7 || fail 'the run does not count its new nodes'

# Mpirun, its daemon and the worker at once; where it has none of its own, the worker.
kill -9 $(pgrep -P "$first") "$(pid_of joined "$doomed")" 2>/dev/null || true
wait "$first" 2>/dev/null || true
wait_until 60 nodes_now joined 6 || fail 'nobody misses who was killed'
join_behind join_host --stage 1 --host "$(hostname)"
host=$joiner
wait_until 60 nodes_now joined 7 || fail 'nobody comes in the place of who was killed'
"$gwtf" join "$scratch/joined" --stage 4 >"$scratch/join_wrong.log" 2>&1 && fail 'there is no stage 4'
grep -q 'stages 1 to 3' "$scratch/join_wrong.log" || fail 'no word of which stages there are'

# One stands still while another joins: neither knows the other, and they meet before it comes back.
still=$(pid_of joined 4)
kill -STOP "$still"
wait_until 30 misses joined 4 || fail 'nobody misses who stands still'
join_behind join_meanwhile --stage 2
meanwhile=$joiner
wait_until 60 has_place join_meanwhile || fail 'no place in stage 2'
node=$(place_of join_meanwhile)
wait_until 60 joins joined "$node" || fail "node $node does not join"
kill -CONT "$still"
wait_until 60 joins joined 4 || fail 'who stood still does not come back'
wait_until 60 has_reached joined $(($(last_iteration joined) + 20)) || fail 'the run does not go on with both'
[ "$(tells joined lost 4)" -eq 1 ] || fail 'who stood still and who joined meanwhile do not meet'

# It leaves as it is told: by a signal to the command, where that runs for as long as the node.
if kill -TERM "$meanwhile" 2>/dev/null; then
    wait "$meanwhile" || fail "gwtf join that was told to leave ended with $?"
    grep -q 'it has left' "$scratch/join_meanwhile.log" || fail 'no word that it has left'
else
    "$gwtf" leave "$scratch/joined" "$node" >/dev/null 2>&1 || fail "gwtf leave ended with $?"
fi
wait_until 60 leaves joined "$node" || fail "node $node does not leave"
[ "$(tells joined lost "$node")" -eq 0 ] || fail 'who left was missed'

end_and_compare joined
wait "$any" || fail "the first one ended with $?"
wait "$host" || fail "the one on a named host ended with $?"
"$gwtf" join "$scratch/joined" >"$scratch/join_late.log" 2>&1 && fail 'a run that is over can be joined'
exit 0
