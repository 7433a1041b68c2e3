#!/bin/sh
# Nodes that are told to leave go, and cost nothing: relays, a data node, the recorder, by gwtf leave and
# by signals. The last node of a stage stays until its notice is over. Losses as without.
. "$(dirname "$0")/lib.sh"

make_data_and_config

# pid_of NAME NODE
phase_of() {
    sed -n 's/.*"phase": *"\([a-z]*\)".*/\1/p' "$scratch/$1/nodes/node-000$2.json"
}
tells_of() {
    [ "$(tells "$1" "$2" "$3")" -ge 1 ]
}
process_is_gone() {
    [ ! -d "/proc/$1" ]
}
# expect_left NAME NODE PID: in order, and nobody took it for lost.
expect_left() {
    wait_until 60 tells_of "$1" left "$2" || fail "node $2 of $1 does not leave"
    wait_until 10 process_is_gone "$3" || fail "node $2 of $1 has left, and its process runs on"
    [ "$(phase_of "$1" "$2")" = left ] || fail "node $2 of $1 says that it is $(phase_of "$1" "$2")"
    [ "$(tells "$1" lost)" -eq 0 ] || fail "a node of $1 was taken for lost"
    [ "$(tells "$1" repaired)" -eq 0 ] || fail "something of $1 was repaired"
}

# Relays: 1 and 4 are stage 1, 2 and 5 stage 2. One is asked by its file, one by SIGTERM, two at one time.
# The writer of stage 1's snapshots is among them.
train_endlessly relays --set snapshot.every=10
wait_until 60 has_reached relays 5 || fail 'the run does not come to iteration 5'
pid=$(pid_of relays 1)
"$gwtf" leave "$scratch/relays" 1 >"$scratch/leave.log" 2>&1 || fail "gwtf leave ended with $?"
grep -q 'it has left' "$scratch/leave.log" || fail 'gwtf leave does not say that the node has left'
expect_left relays 1 "$pid"
[ "$(tells relays leaving 1)" -eq 1 ] || fail 'no word of node 1 being told to leave'
"$gwtf" status "$scratch/relays" | grep -q 'stage 1 *left' || fail 'gwtf status does not show it'
pid=$(pid_of relays 5)
other=$(pid_of relays 3)
kill -TERM "$pid"
kill -USR1 "$other"
expect_left relays 5 "$pid"
expect_left relays 3 "$other"
"$gwtf" leave "$scratch/relays" 9 >/dev/null 2>&1 && fail 'a node that is not there can leave'
"$gwtf" leave "$scratch/relays" 5 >/dev/null 2>&1 && fail 'a node leaves twice'
end_and_compare relays
[ "$(values relays wasted_seconds | awk '$2 > 0' | wc -l)" -eq 0 ] || fail 'something was computed again'

# A last node stays, and goes when its notice is over: its stage is lost, and the run goes on from what
# was written.
restarts=1
train_endlessly last --set nodes.1.count=3 --set snapshot.every=10
wait_until 60 has_reached last 15 || fail 'the run does not come to iteration 15'
pid=$(pid_of last 2)
"$gwtf" leave "$scratch/last" 2 --notice 3 >"$scratch/leave_last.log" 2>&1 || fail "gwtf leave ended with $?"
wait_until 20 process_is_gone "$pid" || fail 'a last node stays for longer than its notice'
[ "$(tells last stays 2)" -eq 1 ] || fail 'no word of a last node that stays'
[ "$(tells last notice_over 2)" -eq 1 ] || fail 'no word of a notice that is over'
[ "$(tells last left)" -eq 0 ] || fail 'a last node has left in order'
wait_until 60 has_reached last $(($(last_iteration last) + 20)) || fail 'the run does not go on without its stage'
interrupt
wait_for_end last 30
[ "$status" -eq 0 ] || fail "last ended with exit code $status"
expect_iterations last "$(last_iteration last)"
restarts=0

# Data nodes: the first is the recorder. The others take over what they would have taken.
set -- --set nodes.0.count=3 --set batch.microbatches=4
train_endlessly data "$@" --set snapshot.every=10
wait_until 60 has_reached data 8 || fail 'the run does not come to iteration 8'
for node in 1 0; do
    pid=$(pid_of data $node)
    kill -USR1 "$pid"
    expect_left data $node "$pid"
    wait_until 60 has_reached data $(($(last_iteration data) + 5)) || fail "it does not go on without node $node"
done
interrupt
wait_for_end data 30
[ "$status" -eq 0 ] || fail "data ended with exit code $status"
last=$(last_iteration data)
expect_iterations data "$last"
[ "$(newest_step data)" -eq "$last" ] || fail 'data has no snapshot of its end'
values data microbatches | awk '$2 != 12 { exit 1 }' || fail 'the batch has not one size'
train_whole calm --local "$@" --set 'optimizer.decay="none"' --set "run.iterations=$last"
expect_same loss data calm 1e-4
expect_nothing_left 'the leave of data nodes'
