# What the stories in this folder share: a scratch folder with data and a configuration, runs in the
# foreground and background, losses held against each other, and a search for what was left behind.
#
# A story is called as: sh tests/mpi/STORY.sh GWTF, with GWTF the command to test. It sources this
# file first. `set -eu` holds, so a step that fails ends the story; `fail` says why. What a story
# starts carries GWTF_STORY in its environment, by which it is found again: never by its name, since
# others may train on the same machine.
#
# shellcheck shell=sh
set -eu

gwtf=$1
case $gwtf in
/*) ;;
*) gwtf=$(pwd)/$gwtf ;;
esac
story=$(basename "$0" .sh)
restarts=0 # of a run by itself: what a story has to see must not be mended unseen
seconds_max=${GWTF_STORY_SECONDS:-120} # of one run; sanitizers and loaded machines need more

scratch=$(mktemp -d "${TMPDIR:-/tmp}/gwtf.XXXXXX")
# Sockets live under TMPDIR, and their paths may not be long.
mkdir "$scratch/t"
export TMPDIR="$scratch/t"
export GWTF_STORY="$scratch"
shm_before=$(find /dev/shm -mindepth 1 2>/dev/null | sort)

note() {
    echo "$story: $*"
}

fail() {
    echo "$story: FAILED: $*" >&2
    for log in "$scratch"/*.log; do
        [ -s "$log" ] || continue
        echo "--- $(basename "$log")" >&2
        tail -n 30 "$log" >&2
    done
    for run in "$scratch"/*/events.jsonl; do
        [ -s "$run" ] || continue
        echo "--- the last events of $(basename "$(dirname "$run")"), and what its nodes wait for" >&2
        tail -n 40 "$run" >&2
        grep -H -e '"waits_for"' -e '"updated_unix_us"' "$(dirname "$run")"/nodes/*.json >&2 || true
    done
    exit 1
}

# The processes that this story started and that still run, one pid a line.
processes() {
    for environment in /proc/[0-9]*/environ; do
        pid=${environment#/proc/}
        pid=${pid%/environ}
        if [ "$pid" != $$ ] &&
            tr '\0' '\n' 2>/dev/null <"$environment" | grep -qxF "GWTF_STORY=$scratch"; then
            echo "$pid"
        fi
    done 2>/dev/null
}

# Only those of the command NAME (the first 15 letters, as the kernel keeps it).
processes_named() {
    for pid in $(processes); do
        if [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$1" ]; then
            echo "$pid"
        fi
    done
}

clean_up() {
    for pid in $(processes); do
        kill -9 "$pid" 2>/dev/null || true
    done
    rm -rf "$scratch"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# wait_until SECONDS COMMAND...: true as soon as COMMAND is.
wait_until() {
    deadline=$(($(date +%s) + $1))
    shift
    until "$@"; do
        [ "$(date +%s)" -lt "$deadline" ] || return 1
        sleep 0.1
    done
}

no_process() {
    # What this very shell runs in a command substitution is none of the run's.
    [ -z "$(processes_of_runs)" ]
}
processes_of_runs() {
    for pid in $(processes); do
        case $(cat "/proc/$pid/comm" 2>/dev/null) in
        gwtf* | mpirun | mpiexec | orted | orterun | prte | prted | prterun | ompi-server) echo "$pid" ;;
        esac
    done
}

# Shared memory that is new and that no process maps or holds open.
stale_shared_memory() {
    find /dev/shm -mindepth 1 2>/dev/null | sort | while IFS= read -r file; do
        if ! echo "$shm_before" | grep -qxF "$file" &&
            ! grep -qsF "$file" /proc/[0-9]*/maps &&
            ! find /proc/[0-9]*/fd -lname "$file" 2>/dev/null | grep -q .; then
            echo "$file"
        fi
    done
}

# tells NAME EVENT [NODE]: how many events of that kind there are, of that node.
tells() {
    grep "\"event\":\"$2\"" "$scratch/$1/events.jsonl" | grep -c "${3:+\"node\":$3,}" || true
}

# joins NAME NODE, misses, leaves: whether the run's events say so.
joins() {
    [ "$(tells "$1" joined "$2")" -ge 1 ]
}
misses() {
    [ "$(tells "$1" lost "$2")" -ge 1 ]
}
leaves() {
    [ "$(tells "$1" left "$2")" -ge 1 ]
}

# pid_of NAME NODE; nodes_now NAME N: as many took part in the last iteration.
pid_of() {
    sed -n 's/.*"pid": *\([0-9]*\).*/\1/p' "$scratch/$1/nodes/node-$(printf %04d "$2").json"
}
nodes_now() {
    [ "$(values "$1" nodes | tail -n 1 | cut -d ' ' -f 2)" -eq "$2" ]
}

# The node that `gwtf join`, with its output in LOG.log, has got the place of, the last one. has_place LOG
place_of() {
    sed -n 's/^gwtf: node \([0-9]*\), \(in stage\|a data node\).*/\1/p' "$scratch/$1.log" | tail -n 1
}
has_place() {
    [ -n "$(place_of "$1")" ]
}

# Nothing is left of the runs so far: no process, shared memory, session directory, temporary file.
expect_nothing_left() {
    wait_until 10 no_process || fail "still running after $1: $(
        for pid in $(processes_of_runs); do
            echo "$pid $(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null)"
        done
    )"
    left=$(find "$TMPDIR" -mindepth 1 | head -n 10)
    [ -z "$left" ] || fail "temporary files are left after $1: $left"
    left=$(find "$scratch" \( -name '*.tmp' -o -name '*.tmp.*' -o -name '.*.tmp*' -o -name '*~' \) | head -n 10)
    [ -z "$left" ] || fail "half-written files are left after $1: $left"
    left=$(stale_shared_memory)
    [ -z "$left" ] || fail "shared memory is left after $1: $left"
}

# A text of words that repeat as in a language, the same every time: Park and Miller's generator
# picks among 64 words, the first ones more often. About 75 KB.
make_text() {
    awk 'BEGIN {
        state = 12345
        for (i = 0; i < 64; i++) {
            word = ""
            for (j = 0; j <= i % 7; j++)
                word = word sprintf("%c", 97 + (i * 11 + j * 5) % 26)
            words[i] = word
        }
        for (i = 0; i < 16000; i++) {
            state = state * 16807 % 2147483647
            pick = int(state / 2147483647 * 64)
            state = state * 16807 % 2147483647
            pick = int(pick * state / 2147483647)
            printf "%s%s", words[pick], i % 12 == 11 ? ".\n" : " "
        }
    }'
}

# A model so small that an iteration takes a hundredth of a second. Runs go to $scratch/NAME.
make_data_and_config() {
    make_text >"$scratch/text.txt"
    "$gwtf" tokenize "$scratch/text.txt" --output "$scratch/train.h5" \
        --validation-share 0.05 --validation-output "$scratch/validation.h5" \
        >"$scratch/tokenize.log" 2>&1 || fail 'the text could not be tokenized'
    cat >"$scratch/config.cfg" <<CONFIG
run = { directory = "$scratch/run"; seed = 7; iterations = 50; rebalance = false; };
model = { family = "gpt2"; layers = 3; width = 32; heads = 2; context = 32; };
data = { train = "$scratch/train.h5"; validation = "$scratch/validation.h5";
         validate_every = 25; validation_sequences = 16; };
batch = { microbatch = 2; microbatches = 8; };
pipeline = { stages = 3; };
nodes = ( { role = "data"; }, { role = "relay"; count = 6; capacity = 3; } );
optimizer = { learning_rate = 3e-3; warmup = 5; };
backend = { threads = 1; };
CONFIG
    rm "$scratch/text.txt"
}

# train NAME [OPTION...]: runs to the end; output in NAME.log, exit code in $status.
train() {
    name=$1
    shift
    status=0
    timeout -k 5 "$seconds_max" "$gwtf" train "$scratch/config.cfg" --restarts "$restarts" \
        --set "run.directory=\"$scratch/$name\"" "$@" >>"$scratch/$name.log" 2>&1 </dev/null ||
        status=$?
    case $status in
    124 | 137) fail "$name did not end in $seconds_max s" ;;
    esac
}

# The same, and it must succeed.
train_whole() {
    train "$@"
    [ "$status" -eq 0 ] || fail "$1 ended with exit code $status"
}

# train_behind NAME [OPTION...]: starts it as a terminal's foreground job would be, in a process
# group of its own ($group) with signals at their defaults.
train_behind() {
    name=$1
    shift
    setsid env --default-signal=INT,QUIT "$gwtf" train "$scratch/config.cfg" \
        --restarts "$restarts" --set "run.directory=\"$scratch/$name\"" "$@" >>"$scratch/$name.log" 2>&1 </dev/null &
    group=$!
}

# What Ctrl+C does.
interrupt() {
    kill -INT "-$group"
}

# has_ended: the job of train_behind is over. wait_for_end NAME SECONDS: its exit code in $status.
has_ended() {
    case $(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$group/status" 2>/dev/null) in
    '' | Z) return 0 ;;
    *) return 1 ;;
    esac
}
wait_for_end() {
    wait_until "$2" has_ended || fail "$1 has not ended after $2 s"
    status=0
    wait "$group" || status=$?
}

# values NAME KEY: "iteration value" a line, for the lines of metrics.jsonl that have KEY.
values() {
    awk -v key="$2" '
        function value_of(name,    start) {
            start = match($0, "\"" name "\": *[-+0-9.eE]+")
            if (!start) return ""
            text = substr($0, RSTART, RLENGTH)
            sub(/.*: */, "", text)
            return text
        }
        { value = value_of(key); if (value != "") print value_of("iteration"), value }' \
        "$scratch/$1/metrics.jsonl" 2>/dev/null || true
}

last_iteration() {
    values "$1" loss | awk '{ last = $1 } END { print last + 0 }'
}
has_reached() {
    [ "$(last_iteration "$1")" -ge "$2" ]
}

# expect_iterations NAME N: metrics.jsonl has the lines 1..N, each once and in order.
expect_iterations() {
    values "$1" loss | awk -v expected="$2" '
        $1 != NR { printf "line %d is iteration %d\n", NR, $1; bad = 1; exit 1 }
        END {
            if (!bad && NR != expected) { printf "%d lines, not %d\n", NR, expected; exit 1 }
        }' >"$scratch/lines.log" || fail "metrics of $1: $(cat "$scratch/lines.log")"
}

# expect_same KEY A B TOLERANCE: at every iteration the values differ by at most TOLERANCE of B's.
expect_same() {
    values "$2" "$1" >"$scratch/a.values"
    values "$3" "$1" >"$scratch/b.values"
    [ -s "$scratch/b.values" ] || fail "$3 has no values of $1"
    awk -v tolerance="$4" '
        NR == FNR { other[$1] = $2; others++; next }
        !($1 in other) { printf "iteration %d is missing\n", $1; bad = 1; next }
        {
            matched++
            difference = ($2 - other[$1]) / (other[$1] == 0 ? 1 : other[$1])
            if (difference < 0) difference = -difference
            if (difference > largest) { largest = difference; at = $1 }
            if (!(difference <= tolerance)) bad = 1
        }
        END {
            printf "largest difference %.2e at iteration %d of %d\n", largest, at, matched
            exit bad || matched != others
        }' "$scratch/b.values" "$scratch/a.values" >"$scratch/same.log" ||
        fail "$1 of $2 and $3 differ by more than $4: $(cat "$scratch/same.log")"
    note "$1 of $2 and $3: $(cat "$scratch/same.log")"
}

# node_values NAME KEY: "file value" a line from nodes/*.json.
node_values() {
    for file in "$scratch/$1"/nodes/*.json; do
        [ -f "$file" ] || continue
        value=$(tr '\n' ' ' <"$file" |
            sed -n "s/.*\"$2\": *\"\{0,1\}\([0-9A-Za-z_.+-]*\).*/\1/p")
        echo "$(basename "$file") $value"
    done
}

# Replicas of a stage hold the same weights, bit by bit.
expect_equal_replicas() {
    node_values "$1" stage >"$scratch/stages.values"
    node_values "$1" weights_hash >"$scratch/hashes.values"
    awk -v nodes="$2" '
        NR == FNR { stage[$1] = $2; next }
        $2 == "" || $2 ~ /^0*$/ { print $1 " has no hash"; bad = 1; next }
        !(stage[$1] in hash) { hash[stage[$1]] = $2 }
        hash[stage[$1]] != $2 { print $1 " differs in stage " stage[$1]; bad = 1 }
        { seen++ }
        END { if (seen != nodes) { print seen + 0 " nodes, not " nodes; bad = 1 }; exit bad }' \
        "$scratch/stages.values" "$scratch/hashes.values" >"$scratch/replicas.log" ||
        fail "replicas of $1: $(cat "$scratch/replicas.log")"
}

# The newest whole snapshot of NAME, as its step; 0 when there is none.
newest_step() {
    find "$scratch/$1/snapshots" -name manifest.cfg 2>/dev/null |
        sed -n 's/.*step-0*\([0-9][0-9]*\)\/manifest.cfg/\1/p' | sort -n | tail -n 1 |
        grep . || echo 0
}

# step_folder NAME STEP
step_folder() {
    printf '%s/%s/snapshots/step-%06d' "$scratch" "$1" "$2"
}

# train_endlessly NAME [OPTION...]: behind, until end_and_compare NAME [OPTION...] ends it, some iterations
# later, by Ctrl+C, and holds it against as many iterations in one process.
train_endlessly() {
    train_behind "$@" --set run.iterations=100000 --set 'optimizer.decay="none"'
}
end_and_compare() {
    endless=$1
    shift
    reached=$(($(last_iteration "$endless") + 20))
    wait_until 60 has_reached "$endless" "$reached" || fail "$endless does not go on"
    interrupt
    wait_for_end "$endless" 30
    [ "$status" -eq 0 ] || fail "$endless ended with exit code $status"
    reached=$(last_iteration "$endless")
    expect_iterations "$endless" "$reached"
    [ "$(newest_step "$endless")" -eq "$reached" ] || fail "$endless has no snapshot of its end"
    train_whole "$endless-local" --local --set 'optimizer.decay="none"' "$@" --set "run.iterations=$reached"
    expect_same loss "$endless" "$endless-local" 1e-4
    expect_nothing_left "$endless"
}
