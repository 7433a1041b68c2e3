#!/bin/sh
# What the emulated network achieves next to what it is configured to, between two workers' transports,
# and what an iteration takes on ten regions. Prints; judges nothing.
#
# usage: sh tests/bench/network.sh BUILD/bin/gwtf, after: ninja -C BUILD bench_network
. "$(dirname "$0")/../mpi/lib.sh"

topology=$(cd "$(dirname "$0")/../.." && pwd)/share/topologies/ten-regions.cfg
make_data_and_config
command=$("$gwtf" train "$scratch/config.cfg" --dry-run)
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export PRTE_ALLOW_RUN_AS_ROOT=1 PRTE_ALLOW_RUN_AS_ROOT_CONFIRM=1
program=$(dirname "$gwtf")/bench_network
[ -x "$program" ] || fail "build it: ninja bench_network"

echo 'latency ms   achieved  bandwidth Mbit/s  achieved            message behind a tensor, ms'
eval "set -- ${command%% -n 1 *}"
# The first one is more than this machine gives: what it can do at all.
for link in 0 1 2 3 4; do
    timeout -k 5 60 "$@" -n 2 "$program" "$link" 2>/dev/null </dev/null
done
rm -rf "${TMPDIR:?}"/*

train_whole plain --set run.iterations=8
train_whole regions --set run.iterations=8 --set "network.emulate=$topology"
for name in plain regions; do
    values "$name" seconds | awk -v name="$name" '
        $1 > 2 { sum += $2; count++ } END { printf "%s: %.2f s an iteration\n", name, sum / count }'
done
expect_same loss regions plain 1e-4
