#!/bin/sh
# From a fresh Debian to a trained model: installs what is missing, builds, makes token files from a
# real text, and trains a small GPT on it with seven processes.
set -eu

usage() {
    cat <<'USAGE'
usage: sh share/quickstart.sh [--set PATH=VALUE]...

Trains share/config/quickstart.cfg into runs/quickstart, or runs/quickstart-2, -3, ... when that is
taken. What is there already (packages, build, tokens) is used again.
  --set PATH=VALUE  change a value of the configuration for this run

Ctrl+C once ends the run with a snapshot, twice at once.

example: sh share/quickstart.sh --set run.iterations=50
USAGE
}

fail() {
    echo "quickstart: $1" >&2
    exit "${2:-1}"
}

for argument; do
    case $argument in
    --help | -h)
        usage
        exit 0
        ;;
    --set | *=*) ;;
    *) fail "there is no option '$argument': see sh share/quickstart.sh --help" 2 ;;
    esac
done

cd "$(dirname "$0")/.."
gwtf=build/release/bin/gwtf
text=build/text
config=share/config/quickstart.cfg

# Halves of files go, whatever ends this.
unfinished=
trap '[ -z "$unfinished" ] || rm -f "$unfinished"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

echo '[1/4] packages'
sh share/install.sh build run text

echo '[2/4] build: build/release'
sh share/build.sh --product

echo '[3/4] text: the King James Bible, its last 5 % for validation'
if [ ! -s "$text/train.h5" ] || [ ! -s "$text/validation.h5" ]; then
    mkdir -p "$text"
    unfinished=$text/bible.txt
    bible -f gen1:1-rev22:21 </dev/null >"$unfinished" ||
        fail 'the command bible gives no text: install Debian package bible-kjv again'
    "$gwtf" tokenize "$text/bible.txt" --output "$text/train.h5" \
        --validation-share 0.05 --validation-output "$text/validation.h5"
    unfinished=
fi

run=runs/quickstart
number=1
while [ -e "$run" ]; do
    number=$((number + 1))
    run=runs/quickstart-$number
done

echo "[4/4] training: $config into $run"
# Ctrl+C reaches gwtf too, which ends the run in order and says how to go on; this script waits.
stopped=
trap 'stopped=yes' INT
status=0
"$gwtf" train "$config" --set "run.directory=\"$run\"" "$@" || status=$?
trap 'exit 130' INT

[ "$status" -eq 0 ] || exit "$status"
[ -z "$stopped" ] || exit 130

newest=$(find "$run/snapshots" -name manifest.cfg | sort | tail -n 1)
cat <<NEXT

The model is trained. What to look at next:
  $gwtf status $run
  $gwtf inspect ${newest%/manifest.cfg}
  $run/metrics.jsonl    a line an iteration: loss, validation_loss, tokens_per_second, ...
NEXT
