#!/bin/sh
# A snapshot that was cut, changed, or lost a file is refused with its name, and the newest whole one
# taken instead.
. "$(dirname "$0")/lib.sh"

make_data_and_config
set -- --local --set snapshot.every=10 --set snapshot.keep=0
train_whole run "$@" --set run.iterations=50
[ "$(newest_step run)" -eq 50 ] || fail 'no snapshot of iteration 50'

# Newest first: one bit flipped, one file cut, one file gone, a foreign file.
file=$(step_folder run 50)/stage-01.h5
size=$(stat -c %s "$file")
byte=$(od -An -tu1 -j $((size / 2)) -N 1 "$file" | tr -d ' ')
# shellcheck disable=SC2059 # the octal escape is made here
printf "$(printf '\\%03o' $((byte ^ 1)))" |
    dd of="$file" bs=1 seek=$((size / 2)) conv=notrunc 2>/dev/null
truncate -s -100 "$(step_folder run 40)/stage-02.h5"
rm "$(step_folder run 30)/stage-03.h5"
echo 'not a snapshot' >"$(step_folder run 20)/stage-00.h5"

for step in 50 40 30 20; do
    status=0
    "$gwtf" inspect "$(step_folder run "$step")" >/dev/null 2>"$scratch/refusal.log" ||
        status=$?
    [ "$status" -eq 1 ] || fail "inspect of damaged step $step ended with $status, not 1"
    [ "$(wc -l <"$scratch/refusal.log")" -eq 1 ] || fail "not one line for step $step"
    grep -q '^gwtf: .*stage-0[0-3]\.h5' "$scratch/refusal.log" ||
        fail "the refusal of step $step does not name the file"
done

rm "$scratch/run.log"
train_whole run "$@" --set run.iterations=60 --resume
for file in step-000050/stage-01.h5 step-000040/stage-02.h5 step-000030/stage-03.h5 \
    step-000020/stage-00.h5; do
    grep -q "$file" "$scratch/run.log" || fail "nothing is said about $file"
done
grep -q 'step-000010' "$scratch/run.log" || fail 'nothing says that step 10 is used'
expect_iterations run 60
expect_nothing_left 'resuming'

# None left: a message, not a fresh start.
for folder in "$scratch"/run/snapshots/step-*; do
    truncate -s 100 "$folder/stage-00.h5"
done
train run "$@" --set run.iterations=70 --resume
[ "$status" -eq 1 ] || [ "$status" -eq 2 ] || fail "resuming from nothing ended with $status"
expect_iterations run 60
train run "$@" --set run.iterations=70 --resume=auto
[ "$status" -eq 1 ] || fail "damaged snapshots are all there is, and --resume=auto ended with $status"
grep -q 'all snapshots under .* are damaged' "$scratch/run.log" || fail 'nobody says that all are damaged'
expect_iterations run 60

# What was never whole stands in nobody's way.
rm "$scratch"/run/snapshots/step-*/manifest.cfg
train_whole run "$@" --set run.iterations=15 --resume=auto
expect_iterations run 15
train_whole run "$@" --set run.iterations=25 --resume=auto
expect_iterations run 25
grep -q 'resuming after iteration 15' "$scratch/run.log" || fail 'the second --resume=auto began anew'
expect_nothing_left 'resuming by itself'
