#!/bin/sh
# What the command says while it trains: all that mpirun prints is in train.log, the last line names
# the cause and not what followed from it, --json keeps stdout for the metrics, and a reader that
# goes away ends the run in order.
. "$(dirname "$0")/lib.sh"

make_data_and_config

# In place of mpirun: a long line, the cause, what a neighbour made of it, words without an end.
cat >"$scratch/mpirun" <<STAND_IN
#!/bin/sh
if [ "\$1" = --version ]; then
    echo 'mpirun (Open MPI) 4.1.4'
    exit
fi
head -c 5000 /dev/zero | tr '\\0' x
echo
echo 'gwtf: node 3: the cause'
sleep 0.5
echo '{"time": "", "event": "failed", "iteration": 0, "text": "node 3 was lost"}' >>"$scratch/words/events.jsonl"
printf 'last words'
STAND_IN
chmod +x "$scratch/mpirun"
GWTF_MPIRUN="$scratch/mpirun"
export GWTF_MPIRUN
train words
unset GWTF_MPIRUN
[ "$status" -eq 1 ] || fail "a run that failed ended with exit code $status"
[ "$(tr -cd x <"$scratch/words/train.log" | wc -c)" -eq 5000 ] || fail 'a long line is not whole in train.log'
grep -qx 'last words' "$scratch/words/train.log" || fail 'the last words are not in train.log'
[ "$(tail -n 1 "$scratch/words.log")" = 'gwtf: node 3: the cause' ] || fail 'the last line is not the cause'
expect_nothing_left 'a run that failed'

# When the bootstrap gives up, nobody waits for what it has spawned.
cat >"$scratch/mpirun" <<'STAND_IN'
#!/bin/sh
if [ "$1" = --version ]; then
    echo 'mpirun (Open MPI) 4.1.4'
    exit
fi
echo 'gwtf: the workers did not come up'
sleep 600
STAND_IN
GWTF_MPIRUN="$scratch/mpirun" train_behind given-up
wait_for_end given-up 20
[ "$status" -eq 1 ] || fail "a run that was given up ended with exit code $status"
for pid in $(processes_named sleep); do
    kill "$pid"
done
expect_nothing_left 'a run that was given up'

# prints_only_metrics NAME [OPTION...]: with --json, a Ctrl+C in between
prints_only_metrics() {
    name=$1
    shift
    setsid env --default-signal=INT,QUIT "$gwtf" train "$scratch/config.cfg" --json "$@" \
        --set "run.directory=\"$scratch/$name\"" >"$scratch/$name.json" 2>"$scratch/$name.log" </dev/null &
    group=$!
    wait_until 30 has_reached "$name" 2 || fail "$name does not come to iteration 2"
    interrupt
    wait_for_end "$name" 20
    cmp -s "$scratch/$name.json" "$scratch/$name/metrics.jsonl" ||
        fail "--json of $name printed something else than the metrics"
}
prints_only_metrics json --set run.iterations=100000
prints_only_metrics json-local --local --set run.iterations=100000

# Only what this start adds is printed, whatever has become of the lines of the former one.
rm "$scratch/json-local/metrics.jsonl"
last=$(($(newest_step json-local) + 3))
"$gwtf" train "$scratch/config.cfg" --local --resume --json --set run.iterations=$last \
    --set "run.directory=\"$scratch/json-local\"" >"$scratch/resumed.json" 2>"$scratch/resumed.log" ||
    fail 'the resumed run failed'
[ "$(wc -l <"$scratch/resumed.json")" -eq 3 ] || fail 'a resumed run did not print its three lines'

# stops_in_order NAME [OPTION...]: one line is read of what it prints
stops_in_order() {
    name=$1
    shift
    timeout -k 5 "$seconds_max" "$gwtf" train "$scratch/config.cfg" --json "$@" \
        --set run.iterations=100000 --set "run.directory=\"$scratch/$name\"" 2>"$scratch/$name.log" |
        head -n 1 >/dev/null
    [ "$(newest_step "$name")" -eq "$(last_iteration "$name")" ] || fail "$name ended without a snapshot"
    expect_nothing_left "$name without a reader"
}
stops_in_order pipe
stops_in_order pipe-local --local
