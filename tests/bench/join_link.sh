#!/bin/sh
# How much of a link's speed the weights and moments of a node that joins take: GPT-2 with 124 million parameters
# in two stages, replicas of the stage on one host, who joins on another one, behind a link of so many Mbit/s.
# Prints; judges nothing. Open MPI 4.1; needs root, iproute2 and util-linux (see tests/lab/lib.sh).
#
# usage: sh tests/bench/join_link.sh BUILD/bin/gwtf [MBIT [REPLICAS]]
. "$(dirname "$0")/../lab/lib.sh"

mbit=${2:-1000}
replicas=${3:-1}

make_data_and_config
make_lab
if mpirun --version | grep -q 'Open MPI) 5'; then
    echo 'join_link: skipped: under Open MPI 5 only hosts of the run join'
    exit 77
fi
sed -i 's/^model = .*/model = { preset = "gpt2-124m"; context = 32; };/' "$scratch/config.cfg"
export GWTF_INTERFACES=10.99.0.0/24

tc qdisc add dev "$(link_of host-b)" root tbf rate "${mbit}mbit" burst 256kb latency 200ms
on host-b tc qdisc add dev eth0 root tbf rate "${mbit}mbit" burst 256kb latency 200ms

has_joined() {
    grep -q 'it has joined' "$scratch/join.log"
}

train_behind run --set pipeline.stages=2 --set nodes.1.count=$((2 * replicas)) --set batch.microbatches=2 \
    --set batch.microbatch=1 --set data.validate_every=0 --set snapshot.every=0 --set run.iterations=100000
wait_until 300 has_reached run 2 || fail 'the run does not come to iteration 2'
on host-b sh -c 'while :; do
    echo "$(date +%s%N) $(sed -n "s/^ *eth0: *\\([0-9]*\\).*/\\1/p" /proc/self/net/dev)"; sleep 0.05; done' >"$scratch/received" &
sampler=$!
on host-b "$gwtf" join "$scratch/run" --stage 1 --threads 1 >"$scratch/join.log" 2>&1 &
joiner=$!
wait_until 600 has_joined || fail 'nobody joins'
sleep 1
kill "$sampler"
# Three quarters of what comes in are weights and moments; the rest is sums of the iteration's gradients, of which
# as much goes the other way.
awk -v mbit="$mbit" -v replicas="$replicas" '
    { at[NR] = $1 * 1e-9; bytes[NR] = $2 }
    END {
        all = bytes[NR] - bytes[1]
        for (i = 1; i <= NR; i++) {
            if (!first && bytes[i] - bytes[1] >= all * 0.05) first = i
            if (!last && bytes[i] - bytes[1] >= all * 0.95) last = i
        }
        rate = (bytes[last] - bytes[first]) * 8e-6 / (at[last] - at[first])
        printf "%d Mbit/s, from %d replicas: %.0f MB came in, at %.0f Mbit/s, %.0f %% of the link\n",
            mbit, replicas, all * 1e-6, rate, 100 * rate / mbit
    }' "$scratch/received"
grep -o 'it has joined.*' "$scratch/join.log"
kill -TERM "$(processes_on host-b gwtf)" 2>/dev/null || true
wait "$joiner" 2>/dev/null || true
interrupt
wait_for_end run 120
