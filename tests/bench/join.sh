#!/bin/sh
# How long a join takes, from the command on: until there is a place, until all are connected, until the weights
# and moments are there, and until the first iteration with the new node is over. GPT-2 with 124 million
# parameters in two stages, unless OPTION... says otherwise. Prints; judges nothing.
#
# usage: sh tests/bench/join.sh BUILD/bin/gwtf [OPTION...]
. "$(dirname "$0")/../mpi/lib.sh"

make_data_and_config
shift "$(($# > 0))"
sed -i 's/^model = .*/model = { preset = "gpt2-124m"; context = 64; };/' "$scratch/config.cfg"
set -- --set pipeline.stages=2 --set nodes.1.count=2 --set batch.microbatches=4 --set batch.microbatch=1 \
    --set data.validate_every=0 --set snapshot.every=0 "$@"

now() {
    date +%s%N
}
since() {
    awk -v from="$1" -v to="$2" 'BEGIN { printf "%.2f", (to - from) * 1e-9 }'
}
says() {
    grep -q "$1" "$scratch/join.log"
}
# The moment at which the command says so.
moment() {
    until says "$1"; do
        kill -0 "$joiner" 2>/dev/null || fail "$(cat "$scratch/join.log")"
        sleep 0.01
    done
    now
}

train_behind run "$@" --set run.iterations=100000
wait_until 300 has_reached run 2 || fail 'the run does not come to iteration 2'
began=$(now)
"$gwtf" join "$scratch/run" --stage 1 --threads 1 >"$scratch/join.log" 2>&1 &
joiner=$!
placed=$(moment ' in stage 1')
connected=$(moment 'connected to')
joined=$(moment 'it has joined')
iteration=$(sed -n 's/.*with weights of iteration \([0-9]*\),.*/\1/p' "$scratch/join.log" | head -n 1)
wait_until 120 has_reached run $((iteration + 1)) || fail 'no iteration ends with the new node'
served=$(now)
echo "seconds since the command: a place $(since "$began" "$placed"), connected $(since "$began" "$connected")," \
    "weights and moments $(since "$began" "$joined"), its first iteration over $(since "$began" "$served")"
sed -n 's/.*, \([0-9.]* s after it asked\)/of it, \1 to be let in/p' "$scratch/join.log" | head -n 1
echo "an iteration takes $(values run seconds | awk '{ s += $2 } END { printf "%.2f", s / NR }') s"
interrupt
wait_for_end run 120
