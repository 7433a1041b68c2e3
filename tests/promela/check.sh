#!/bin/sh
# Checks the model of aggregation with spin: without fault as it is, and with an error found where
# a rule is left out.
#
# usage: sh check.sh MODEL
set -eu

model=$(realpath "$1")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"

# Prints states and seconds, and leaves what was found in $scratch/found.
search() {
    command -v spin >/dev/null || { echo "spin is missing: sh share/install.sh test" >&2; exit 1; }
    spin -a "$@" "$model" >log 2>&1 && cc -O1 -DSAFETY -DCOLLAPSE -DMEMLIM=2048 -o pan pan.c >>log 2>&1 || {
        cat log
        exit 1
    }
    ./pan -m100000 >found
    grep -E 'max search depth too small|out of memory' found && exit 1
    echo "$*: $(grep -E 'states, stored' found | tr -s ' '), $(grep -E 'total actual memory' found | tr -s ' ')," \
        "$(grep 'elapsed time' found || echo 'under 0.1 seconds')"
}

# Who waits for ever waits no more once another crashes: so with each number of crashes.
for crashes in 0 1 2; do
    search -DCRASHES=$crashes
    grep -q 'errors: 0$' found || {
        cat found
        exit 1
    }
done
for mutant in NO_WAIT NO_RETRY; do
    search -DCRASHES=1 -D$mutant
    grep -q 'assertion violated' found || {
        echo "nothing is found without the rule that $mutant leaves out"
        exit 1
    }
done
