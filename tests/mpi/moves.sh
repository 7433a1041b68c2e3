#!/bin/sh
# A stage loses nodes, and holds the others up: a node of a fuller one moves there by itself, its process anew;
# who was put where it is by a person stays. Losses as without.
. "$(dirname "$0")/lib.sh"

make_data_and_config

stage_of() {
    sed -n 's/^gwtf: node [0-9]*, in stage \([0-9]*\).*/\1/p' "$scratch/$1.log" | tail -n 1
}
has_moved() {
    [ "$(tells moved moves)" -ge 1 ]
}
# join_and_serve LOG [OPTION...]: pid in $joiner, its node in $node
join_and_serve() {
    log=$1
    shift
    "$gwtf" join "$scratch/moved" --threads 1 "$@" >"$scratch/$log.log" 2>&1 &
    joiner=$!
    wait_until 60 has_place "$log" || fail "no place for $log"
    node=$(place_of "$log")
    wait_until 60 joins moved "$node" || fail "node $node does not join"
}

train_endlessly moved --set model.layers=2 --set pipeline.stages=2 --set model.width=128 \
    --set optimizer.learning_rate=5e-4 --set 'nodes.1.count=2' --set run.rebalance=true
wait_until 60 has_reached moved 5 || fail 'the run does not come to iteration 5'

# Stage 1 gets two that may move and one that may not; stage 2 two that are lost.
join_and_serve stays --stage 1
for log in free_1 free_2 free_3 free_4; do
    join_and_serve $log
    eval "$log=$joiner"
done
[ "$(tells moved moves)" -eq 0 ] || fail 'a node moves though all stages have as many'
in_first=0
for log in free_1 free_2 free_3 free_4; do
    note "$log: node $(place_of $log) in stage $(stage_of $log)"
    if [ "$(stage_of $log)" -eq 1 ]; then
        in_first=$((in_first + 1))
        continue
    fi
    eval "joiner=\$$log"
    kill -9 $(pgrep -P "$joiner") "$(pid_of moved "$(place_of $log)")" 2>/dev/null || true
    wait "$joiner" 2>/dev/null || true
done
[ "$in_first" -ge 1 ] && [ "$in_first" -le 3 ] || fail "of four nodes that came one by one, $in_first are in stage 1"
left=$((4 + in_first))
wait_until 60 nodes_now moved "$left" || fail 'nobody misses those that were killed'

wait_until 120 has_moved || fail 'nobody moves from the fuller stage'
mover=$(sed -n 's/.*"event":"moves".*"node":\([0-9]*\),.*/\1/p' "$scratch/moved/events.jsonl" | head -n 1)
note "node $mover moves: $(sed -n 's/.*"event":"moves".*"text":"\(.*\)".*/\1/p' "$scratch/moved/events.jsonl" | head -n 1)"
[ "$mover" -gt 3 ] && [ "$mover" -le 6 ] || fail "node $mover is none of those in stage 1 that may move"
has_come() {
    [ "$(tells moved joined)" -ge 6 ] && nodes_now moved "$left"
}
wait_until 60 has_come || fail "node $mover does not come to its new stage"
come=$(sed -n 's/.*"event":"joined".*"node":\([0-9]*\),.*/\1/p' "$scratch/moved/events.jsonl" | tail -n 1)
[ "$come" -ge 7 ] || fail "node $come, which came last, is not in stage 2"
[ "$(tells moved lost)" -eq $((4 - in_first)) ] || fail 'a move counts as a loss'
note "as node $come it serves in stage 2"
end_and_compare moved --set model.layers=2 --set pipeline.stages=2 --set model.width=128 \
    --set optimizer.learning_rate=5e-4
