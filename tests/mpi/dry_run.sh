#!/bin/sh
# --dry-run prints the command and starts nothing; every example configuration of share/config is
# sound, the ones on the quickstart's data as far as that is there.
. "$(dirname "$0")/lib.sh"

make_data_and_config
"$gwtf" train "$scratch/config.cfg" --dry-run >"$scratch/dry.log" 2>&1 || fail 'it ended badly'
grep -q 'mpirun .*-n 1 .*gwtf-bootstrap' "$scratch/dry.log" || fail 'no command of mpirun'
[ ! -e "$scratch/run" ] || fail 'it made the directory of the run'

examples=$(cd "$(dirname "$0")/../../share/config" && pwd)
for example in "$examples"/*.cfg; do
    "$gwtf" train "$example" --dry-run --set "data.train=\"$scratch/train.h5\"" \
        --set "data.validation=\"$scratch/validation.h5\"" \
        --set "run.directory=\"$scratch/run\"" >"$scratch/example.log" 2>&1 ||
        fail "$(basename "$example") is refused"
done
expect_nothing_left 'dry runs'
