#!/bin/sh
# A fresh copy of the tree comes to a trained model by one command; a second time nothing is built or
# made again, and the first run stays as it is.
. "$(dirname "$0")/lib.sh"

source=$(cd "$(dirname "$0")/../.." && pwd)
tree=$scratch/tree
mkdir "$tree"
tar -C "$source" --exclude=./build --exclude=./runs --exclude=./.git -cf - . | tar -C "$tree" -xf -

quickstart() {
    timeout -k 5 300 sh "$tree/share/quickstart.sh" --set run.iterations=3 \
        --set data.validate_every=0 --set data.validation_sequences=4 \
        >"$scratch/$1.log" 2>&1 </dev/null || fail "$1 ended with exit code $?"
    grep -q 'What to look at next' "$scratch/$1.log" || fail "$1 does not say what is next"
    [ -f "$tree/runs/$1/snapshots/step-000003/manifest.cfg" ] || fail "$1 left no snapshot"
}
quickstart quickstart
before=$(cd "$tree" && find build/release/bin build/text runs -type f -exec sha256sum {} + | sort)
quickstart quickstart-2
after=$(cd "$tree" && find build/release/bin build/text runs -type f ! -path '*quickstart-2*' \
    -exec sha256sum {} + | sort)
[ "$before" = "$after" ] || fail 'the second run changed what the first one made'
expect_nothing_left 'the quickstart'
