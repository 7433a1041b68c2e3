#!/bin/sh
# How long it takes from kill -9 of a worker until the others know: several runs, a line each. Prints;
# judges nothing.
#
# usage: sh tests/bench/detection.sh BUILD/bin/gwtf [RUNS]
. "$(dirname "$0")/../mpi/lib.sh"

make_data_and_config
run=0
while [ "$run" -lt "${2:-5}" ]; do
    run=$((run + 1))
    train_behind "run$run" --set run.iterations=100000
    wait_until 60 has_reached "run$run" 12 || fail 'the run does not come to iteration 12'
    sleep 8 # pauses are known after five seconds
    victim=$(node_values "run$run" pid | sed -n 's/^node-0*3\.json //p')
    killed=$(date +%s%3N)
    kill -9 "$victim"
    until grep -q ' is down (' "$scratch/run$run.log"; do
        [ "$(date +%s%3N)" -lt $((killed + 60000)) ] || fail 'nobody has noticed'
        sleep 0.01
    done
    known=$(date +%s%3N)
    echo "run $run: $((known - killed)) ms: $(grep -m 1 ' is down (' "$scratch/run$run.log")"
    wait_for_end "run$run" 60
    for pid in $(processes_of_runs); do
        kill -9 "$pid" 2>/dev/null || true
    done
done
