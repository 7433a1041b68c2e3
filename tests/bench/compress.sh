#!/bin/sh
# What network.compress saves, and costs: the same training with boundary tensors as they are, as
# bfloat16 and as int8, over links of several rates (20 ms each way), and without a network between
# processes. A line each: seconds of an iteration (the median), and the last loss. Prints; judges
# nothing.
#
# usage: sh tests/bench/compress.sh BUILD/bin/gwtf [ITERATIONS [MBIT...]]
. "$(dirname "$0")/../mpi/lib.sh"

iterations=${2:-20}
if [ $# -gt 2 ]; then
    shift 2
else
    set -- 20 100 1000
fi
make_data_and_config

# measure NAME PACKING OPTION...: $seconds and $loss.
measure() {
    name=$1 packing=$2
    shift 2
    train_whole "$name" "$@" --set "run.iterations=$iterations" --set model.width=128 \
        --set model.context=128 --set data.validate_every=0 --set "network.compress=$packing"
    seconds=$(values "$name" seconds | sort -k 2 -g | awk '{ took[NR] = $2 }
        END { printf "%.3f", took[int((NR + 1) / 2)] }')
    loss=$(values "$name" loss | tail -n 1 | cut -d ' ' -f 2)
    rm -rf "${scratch:?}/$name"
}

printf '%-12s %-10s %12s %10s\n' network compress s/iteration loss
for mbit in none "$@"; do
    for packing in none bfloat16 int8; do
        if [ "$mbit" = none ]; then
            measure "$packing" "$packing"
        else
            cat >"$scratch/wan.cfg" <<TOPOLOGY
topology = {
    regions = [ "all" ];
    within_region = { latency_ms = 20; bandwidth_mbit = $mbit; };
    links = ( );
};
TOPOLOGY
            measure "$packing" "$packing" --set "network.emulate=$scratch/wan.cfg"
        fi
        printf '%-12s %-10s %12s %10s\n' "$mbit" "$packing" "$seconds" "$loss"
    done
done
