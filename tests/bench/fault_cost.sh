#!/bin/sh
# What it costs to be ready for losses when nothing is lost: the same training with detection and kept
# tensors, and without either, in turns. A line a pair: iterations (median) and processor time, with
# over without; at last the medians and quarters of both. Prints; judges nothing.
#
# usage: sh tests/bench/fault_cost.sh BUILD/bin/gwtf [PAIRS [ITERATIONS]]
. "$(dirname "$0")/../mpi/lib.sh"

pairs=${2:-10}
iterations=${3:-30}
make_data_and_config
: >"$scratch/ratios"

# Milliseconds of processor time that the ended children of this shell have used: of a shell of its own
# it would be its own children's, so it goes by way of a file.
used() {
    times >"$scratch/times"
    awk 'END { gsub("[ms]", " "); printf "%.0f", ($1 * 60 + $2 + $3 * 60 + $4) * 1000 }' \
        "$scratch/times" >"$scratch/used"
    used_ms=$(cat "$scratch/used")
}
# measure NAME OPTION...: $iteration_us, the median, and $processor_ms.
measure() {
    used
    before_ms=$used_ms
    train_whole "$@" --set "run.iterations=$iterations" --set model.width=128 --set model.context=128 \
        --set data.validate_every=0
    used
    processor_ms=$((used_ms - before_ms))
    iteration_us=$(values "$1" seconds | sort -k 2 -g | awk '{ took[NR] = $2 }
        END { printf "%.0f", took[int((NR + 1) / 2)] * 1000000 }')
    rm -rf "${scratch:?}/$1" "$scratch/$1.log"
}
with() {
    measure with
    with_us=$iteration_us
    with_ms=$processor_ms
}
without() {
    measure without --set 'faults.detector="off"' --set 'faults.repair="restart"'
    without_us=$iteration_us
    without_ms=$processor_ms
}
# quarters COLUMN
quarters() {
    awk -v column="$1" '{ print $column }' "$scratch/ratios" | sort -g | awk '
        { ratio[NR] = $1 }
        function at(share) { return ratio[int(share * (NR - 1) + 1.5)] }
        END { printf "%.3f (%.3f to %.3f)", at(0.5), at(0.25), at(0.75) }'
}

pair=0
while [ "$pair" -lt "$pairs" ]; do
    pair=$((pair + 1))
    if [ $((pair % 2)) -eq 1 ]; then
        with
        without
    else
        without
        with
    fi
    echo "$with_us $without_us $with_ms $without_ms" |
        awk '{ printf "%.4f %.4f\n", $1 / $2, $3 / $4 }' >>"$scratch/ratios"
    echo "pair $pair: iteration $((with_us / 1000)) and $((without_us / 1000)) ms," \
        "processor $with_ms and $without_ms ms"
done
echo "$pairs pairs: iterations $(quarters 1), processor time $(quarters 2) of that without"
