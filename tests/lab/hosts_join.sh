#!/bin/sh
# Machines that the run knows nothing of join it over the network, and go again: in order, or with all their
# processes at once, and others come. One that cannot reach a node of the run says which, and what to open,
# and costs the run nothing. When what they meet by has died, the run goes on, and nobody can join. Losses as
# without. With Open MPI 5 there are no such machines: mpirun starts processes on the run's hosts only.
. "$(dirname "$0")/lib.sh"

make_data_and_config
make_lab
if mpirun --version | grep -q 'Open MPI) 5'; then
    echo 'hosts_join: skipped: Open MPI 5 starts processes on hosts of the run only'
    exit 77
fi

# ask_from HOST LOG [OPTION...]: behind, $asking; join_from, until it has joined as $node.
ask_from() {
    from=$1
    log=$2
    shift 2
    on "$from" "$gwtf" join "$scratch/joined" --threads 1 "$@" >"$scratch/$log.log" 2>&1 &
    asking=$!
}
join_from() {
    ask_from "$@"
    wait_until 60 has_place "$2" || fail "$2 gets no place"
    node=$(place_of "$2")
    wait_until 60 joins joined "$node" || fail "node $node does not join"
}
kill_all_on() {
    for process in mpirun gwtf-worker gwtf; do
        for pid in $(processes_on "$1" "$process"); do
            kill -9 "$pid" 2>/dev/null || true
        done
    done
}

# A run of two hosts has processes that are not mpirun's own.
sed 's/^nodes = .*/nodes = ( { role = "data"; host = "host-a"; }, { role = "relay"; count = 3; host = "host-b"; } );/' \
    "$scratch/config.cfg" >"$scratch/wide.cfg"
"$gwtf" train "$scratch/wide.cfg" --set "run.directory=$scratch/joined" --set run.iterations=3000 \
    >"$scratch/wide.log" 2>&1 &
wide=$!
wait_until 60 has_reached joined 5 || fail 'the wide run does not get under way'
on host-c "$gwtf" join "$scratch/joined" >"$scratch/refused.log" 2>&1 && fail 'a run of two hosts lets others join'
grep -q 'let the other machines join' "$scratch/refused.log" || fail 'no word of which runs can be joined'
kill -INT "$wide"
wait "$wide" || true
rm -rf "$scratch/joined"

export GWTF_INTERFACES=10.99.0.0/24
# Slow links, for fewer iterations: within a thousand also undisturbed losses part, as sums are rounded in other
# orders.
cat >"$scratch/wan.cfg" <<TOPOLOGY
topology = { regions = [ "Here" ]; within_region = { latency_ms = 30; bandwidth_mbit = 1000; }; links = (); };
TOPOLOGY
train_endlessly joined --set "network.emulate=$scratch/wan.cfg"
wait_until 60 has_reached joined 5 || fail 'the run does not get under way'
join_from host-b leaver --stage 1
join_from host-c lost --stage 2
join_from host-c lost_too --stage 3
wait_until 30 nodes_now joined 10 || fail 'not all that have joined are there'
kill -TERM "$(processes_on host-b gwtf)" || fail 'who is to leave is not there'
wait_until 30 nodes_now joined 9 || fail 'who is told to leave stays'
wait_until 10 grep -q 'it has left' "$scratch/leaver.log" || fail 'no word that it has left'
kill_all_on host-c
wait_until 60 nodes_now joined 7 || fail 'nobody misses those of host-c'
[ "$(tells joined lost)" -eq 2 ] || fail "others than those of host-c are missed: $(tells joined lost)"
join_from host-c again --stage 2
join_from host-b anew
wait_until 30 nodes_now joined 9 || fail 'those that come in their place are not there'

# From host-b there is no way to host-c, where a node of the run is now.
kill_all_on host-b
wait_until 60 nodes_now joined 8 || fail 'nobody misses the one of host-b'
on host-b ip route add blackhole 10.99.0.3/32
ask_from host-b cut_off --stage 1
if wait "$asking"; then
    fail 'who cannot reach a node of the run joins it'
fi
grep -q "node $(place_of again).*ports" "$scratch/cut_off.log" || fail 'no word of which node cannot be reached'
nodes_now joined 8 || fail 'who cannot join costs the run a node'

pid=$(processes_named ompi-server)
kill -9 "$pid"
wait_until 10 grep -q 'nobody can join any more' "$scratch/joined.log" || fail 'no word that nobody can join any more'
on host-b "$gwtf" join "$scratch/joined" >"$scratch/closed.log" 2>&1 && fail 'it can be joined without a rendezvous'
grep -q 'after a restart' "$scratch/closed.log" || fail 'no word of when it can be joined again'
end_and_compare joined
