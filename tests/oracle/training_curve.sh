#!/bin/sh
# GWTF's training and validation losses are, within 0.2 % and up to iteration 500, those that PyTorch
# had from the same initial weights with the same data: fixtures/training_curve.txt, which
# training_curve.py wrote.
#
# usage: sh training_curve.sh GWTF
set -eu

gwtf=$1
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

if ! command -v bible >/dev/null; then
    echo 'skipped: install bible-kjv, the text'
    exit 77
fi
bible -f gen1:1-rev22:21 </dev/null >text
if ! grep -q "^text $(sha256sum <text | cut -d ' ' -f 1)$" "$here/fixtures/training_curve.txt"; then
    echo 'skipped: the text here is another than the one of the recorded curve: record it anew'
    exit 77
fi
"$gwtf" tokenize text --output train.h5 --validation-share 0.05 --validation-output validation.h5 >out
"$gwtf" train "$here/training_curve.cfg" --local >out

# Iteration, mean loss of the last 20 iterations, validation loss.
sed -n 's/.*"iteration": *\([0-9]*\),.*"loss": *\([0-9.e+-]*\),.*/\1 \2/p' run/metrics.jsonl >losses
sed -n 's/.*"iteration": *\([0-9]*\),.*"validation_loss": *\([0-9.e+-]*\).*/\1 \2/p' run/metrics.jsonl >validations
awk '
    FILENAME == ARGV[1] { loss[$1] = $2; next }
    FILENAME == ARGV[2] { validation[$1] = $2; next }
    $1 == "text" { next }
    {
        mean = 0
        for (i = $1 - 19; i <= $1; i++) mean += loss[i] / 20
        off = mean / $2 - 1
        off_validation = validation[$1] / $3 - 1
        printf "iteration %d: loss %.4f (%+.3f %%), validation %.4f (%+.3f %%)\n", $1, mean,
            100 * off, validation[$1], 100 * off_validation
        bad += !(off < 0.002 && off > -0.002 && off_validation < 0.002 && off_validation > -0.002)
        lines++
    }
    END { exit bad > 0 || lines != 5 }
' losses validations "$here/fixtures/training_curve.txt" || {
    echo 'PyTorch had other losses'
    exit 1
}
