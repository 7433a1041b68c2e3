#!/bin/sh
# Shows that a simulated run does not depend on compiler or optimisation: builds it with gcc and
# clang (where it is installed), with -O0 and -O2, and compares what scenarios come to, of which
# every event is in a hash.
#
# usage: sh same_trace.sh SOURCE
set -eu

source=$1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
builds=0
for compiler in gcc clang; do
    command -v $compiler >/dev/null || continue
    for level in -O0 -O2; do
        build=$scratch/$compiler$level
        cmake -S "$source" -B "$build" -DCMAKE_C_COMPILER=$compiler -DCMAKE_BUILD_TYPE=None \
            -DCMAKE_C_FLAGS="$level" -DGWTF_MPI=OFF >"$scratch/log" 2>&1 &&
            cmake --build "$build" --target trace_of >>"$scratch/log" 2>&1 || {
            tail -20 "$scratch/log"
            exit 1
        }
        for scenario in laptop university-cloud ten-regions-18; do
            "$build/bin/trace_of" "$source/share/scenarios/$scenario.cfg" run.iterations=3 \
                churn.probability=0.1 links.probability=0.2
        done >"$scratch/traces$compiler$level"
        cat "$scratch/traces$compiler$level" >"$scratch/last"
        builds=$((builds + 1))
        cmp "$scratch/tracesgcc-O0" "$scratch/traces$compiler$level" || {
            echo "$compiler $level gives other runs than gcc -O0"
            exit 1
        }
    done
done
cat "$scratch/last"
echo "$builds builds, the same runs"
