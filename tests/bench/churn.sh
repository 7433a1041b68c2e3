#!/bin/sh
# What churn costs under each policy: ten regions, relays that crash with a probability in each
# iteration, medians over several seeds. Prints a table; judges nothing. Who crashes stays away, so
# runs are short: after many iterations little is left of any network.
#
# usage: sh tests/bench/churn.sh BUILD/bin/gwtf [SCENARIO [SEEDS [GWTF-SIMULATE-OPTION...]]]
set -eu

gwtf=$1
shift
scenario=${1:-ten-regions-18}
[ $# -eq 0 ] || shift
seeds=${1:-5}
[ $# -eq 0 ] || shift
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# value KEY: of the run whose JSON is the input.
value() {
    sed -n "s/^ *\"$1\": \([-0-9.e+]*\),*$/\1/p" | head -n 1
}

# median FILE: of the numbers in it.
median() {
    sort -g "$1" | awk '{ v[NR] = $1 } END { print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'
}

echo "$scenario, $seeds seeds, 4 iterations: medians"
echo 'churn  policy         s/iteration  microbatches/s  wasted %  of it by the living %  recovery s'
for churn in 0.0 0.1 0.2; do
    for policy in gwtf gwtf-paper swarm swarm-greedy; do
        rm -f "$scratch"/*
        seed=0
        while [ "$seed" -lt "$seeds" ]; do
            seed=$((seed + 1))
            "$gwtf" simulate "$scenario" --iterations 4 --seed "$seed" --churn "$churn" \
                --policy "$policy" --json "$@" >"$scratch/run"
            for key in seconds_per_iteration microbatches_per_second wasted_compute \
                wasted_by_crashed recovery_seconds_median; do
                value "$key" <"$scratch/run" >>"$scratch/$key"
            done
        done
        paste "$scratch/wasted_compute" "$scratch/wasted_by_crashed" |
            awk '{ print $1 - $2 }' >"$scratch/others"
        echo "$churn $policy $(median "$scratch/seconds_per_iteration")" \
            "$(median "$scratch/microbatches_per_second") $(median "$scratch/wasted_compute")" \
            "$(median "$scratch/others") $(median "$scratch/recovery_seconds_median")" |
            awk '{ printf "%5s  %-13s %12.2f %15.2f %9.2f %21.2f %12.2f\n",
                   $1, $2, $3, $4, 100 * $5, 100 * $6, $7 }'
    done
done
