#!/bin/sh
# Workers on three hosts. A worker dies, where no process on its host tells the others; a host is cut
# off for good; a host's part of mpirun dies, and its workers with it. Training goes on each time,
# alone (Open MPI 4.1) or after a restart (5.0, where the loss of a host ends the job), as fast as
# before, and the losses are those of an undisturbed run.
. "$(dirname "$0")/lib.sh"

make_data_and_config
make_lab
sed -i 's/^nodes = .*/nodes = ( { role = "data"; host = "host-a"; },\
  { role = "relay"; count = 3; host = "host-b"; capacity = 3; },\
  { role = "relay"; count = 3; host = "host-c"; capacity = 3; } );/' "$scratch/config.cfg"
iterations=650
lost_at=350 # pauses are known by then, and silence is told from them
restarts=3 # a lost host ends the job with Open MPI 5.0, which also fails to start now and then

# The median of an iteration's seconds, iterations FROM to TO of NAME.
pace() {
    values "$1" seconds | awk -v from="$2" -v to="$3" '$1 >= from && $1 <= to { print $2 }' |
        sort -g | awk '{ took[NR] = $1 } END { print took[int((NR + 1) / 2)] }'
}

# When a whole job ends, a stage may be gone before the others are: with stage_loss = "snapshot" it is
# then of an older snapshot than they, and losses are the same up to there.
expect_same_until_restored() {
    restored=$(sed -n 's/.*"restarted","iteration":\([0-9]*\),"text":".* is of iteration .*/\1/p' \
        "$scratch/$1/events.jsonl" | head -n 1)
    if [ -z "$restored" ]; then
        expect_same loss "$1" calm 1e-4
        return
    fi
    note "$1: went on from iteration $restored with a stage of an older snapshot"
    for run in "$1" calm; do
        mkdir "$scratch/$run-before"
        head -n "$restored" "$scratch/$run/metrics.jsonl" >"$scratch/$run-before/metrics.jsonl"
    done
    expect_same loss "$1-before" calm-before 1e-4
    rm -r "$scratch/$1-before" "$scratch/calm-before"
}

# goes_on NAME LOST: after a loss at $lost_at the run NAME comes to its end with as many LOST nodes.
goes_on() {
    wait_for_end "$1" 240
    [ "$status" -eq 0 ] || fail "$1 ended with exit code $status"
    expect_iterations "$1" "$iterations"
    expect_same_until_restored "$1"
    [ "$(tells "$1" lost)" -ge "$2" ] || [ "$(tells "$1" restarted)" -ge 1 ] ||
        fail "$1: the loss was not noticed"
    before=$(pace "$1" 150 "$lost_at")
    after=$(pace "$1" $((lost_at + 100)) "$iterations")
    note "$1: an iteration took $before s before and $after s after the loss"
    awk -v before="$before" -v after="$after" 'BEGIN { exit !(after < 4 * before) }' ||
        fail "$1 got slow"
}

# begin NAME: the run is under way.
begin() {
    train_behind "$1" --set "run.iterations=$iterations" --set snapshot.every=200
    wait_until 120 has_reached "$1" "$lost_at" || fail "$1 did not get under way"
}

train_whole calm --set "run.iterations=$iterations"
[ "$(node_values calm host | awk '{ print $2 }' | sort | uniq -c | awk '{ print $1 }' |
    tr '\n' ' ')" = '1 3 3 ' ] || fail 'the workers are not where they were to be'

begin worker
kill -9 "$(processes_on host-b gwtf-worker | head -n 1)"
goes_on worker 1
expect_nothing_left worker

begin daemon
for process in orted prted; do
    for pid in $(processes_on host-c "$process"); do
        kill -9 "$pid"
    done
done
goes_on daemon 3
expect_nothing_left daemon

begin cut
ip link set "$(link_of host-c)" down
goes_on cut 3
# What is on the lost host ends when it learns that its mpirun has.
ip link set "$(link_of host-c)" up
expect_nothing_left cut
