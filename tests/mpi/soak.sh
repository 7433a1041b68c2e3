#!/bin/sh
# Random relays die every two seconds, others stand still for so long that they are declared down and
# come back as new members, links lose messages: run after run until the time is over, each with other
# seeds, until one relay of each stage is left. Every run ends by itself with the losses of the
# undisturbed one.
#
# usage: sh tests/mpi/soak.sh BUILD/bin/gwtf [SECONDS [SEED]]
. "$(dirname "$0")/lib.sh"

seconds=${2:-60}
seed=${3:-$(date +%s)}
make_data_and_config
set -- --set run.iterations=120 --set snapshot.every=10
train_whole calm --local "$@"
began=$(date +%s)
runs=0
kills=0
returns=0
while [ $(($(date +%s) - began)) -lt "$seconds" ]; do
    runs=$((runs + 1))
    faults="kill at=1,every=2,seed=$((seed + runs)); stop at=3,every=5,for=3,seed=$((seed + runs));
        lossy at=4,for=4,loss=0.02"
    note "run $runs: --chaos '$faults'"
    train_whole shaken "$@" --set nodes.1.count=12 --chaos "$faults"
    killed=$(grep -c '"event":"chaos".*kill' "$scratch/shaken/events.jsonl" || true)
    kills=$((kills + killed))
    returns=$((returns + $(tells shaken joined)))
    [ "$killed" -gt 0 ] || fail 'nobody was killed'
    expect_iterations shaken 120
    expect_same loss shaken calm 1e-4
    [ "$(newest_step shaken)" -eq 120 ] || fail 'no snapshot at the end'
    expect_nothing_left "run $runs"
    rm -rf "$scratch/shaken" "$scratch/shaken.log"
done
note "$runs runs with $kills kills and $returns returns in $(($(date +%s) - began)) s: all whole"
