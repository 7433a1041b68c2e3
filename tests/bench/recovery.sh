#!/bin/sh
# How long it takes from kill -9 of a worker until its microbatches move again: until who sent them to
# it has sent them to another. Runs of six kills each, a line a kill, then median and worst. Both
# moments come from the run's events. With `heartbeat` neither the system nor MPI 4.1 tells of a death;
# kills then begin when workers know each other's pauses. Prints; judges nothing.
#
# usage: sh tests/bench/recovery.sh BUILD/bin/gwtf [KILLS [auto|heartbeat]]
. "$(dirname "$0")/../mpi/lib.sh"

make_data_and_config
kills_wanted=${2:-50}
detector=${3:-auto}
first=9
if [ "$detector" = heartbeat ]; then
    first=400
fi
: >"$scratch/recovered"

# Milliseconds from each kill to the first microbatch of the killed node that another has taken.
recovered() {
    awk '
        function text(key) {
            if (!match($0, "\"" key "\":\"[^\"]*\"")) return ""
            return substr($0, RSTART + length(key) + 4, RLENGTH - length(key) - 5)
        }
        function node() {
            match($0, "\"node\":[0-9]+")
            return substr($0, RSTART + 7, RLENGTH - 7)
        }
        # Of the day.
        function milliseconds(time) {
            return ((substr(time, 12, 2) * 60 + substr(time, 15, 2)) * 60 + substr(time, 18, 6)) * 1000
        }
        text("event") == "chaos" { killed[node()] = milliseconds(text("time")) }
        text("event") == "repaired" && node() in killed {
            took = milliseconds(text("time")) - killed[node()]
            printf "%.0f\n", took < 0 ? took + 86400000 : took
            delete killed[node()]
        }' "$scratch/$1/events.jsonl"
}

run=0
while [ "$(wc -l <"$scratch/recovered")" -lt "$kills_wanted" ]; do
    run=$((run + 1))
    [ "$run" -le "$kills_wanted" ] || fail 'too few kills were repaired'
    train_whole "run$run" --set "run.iterations=$((first + 51))" --set nodes.1.count=9 \
        --set "faults.detector=\"$detector\"" --chaos "
        kill node=1,iteration=$first,phase=forward; kill node=5,iteration=$((first + 7)),phase=backward;
        kill node=9,iteration=$((first + 14)),phase=forward;
        kill node=2,iteration=$((first + 21)),phase=backward;
        kill node=6,iteration=$((first + 28)),phase=forward;
        kill node=7,iteration=$((first + 35)),phase=backward"
    recovered "run$run" >"$scratch/recovered-now"
    echo "run $run: $(tr '\n' ' ' <"$scratch/recovered-now")ms"
    cat "$scratch/recovered-now" >>"$scratch/recovered"
done
sort -n "$scratch/recovered" | awk '
    { took[NR] = $1 }
    END { printf "%d kills: median %.0f ms, worst %.0f ms\n", NR, took[int((NR + 1) / 2)], took[NR] }'
