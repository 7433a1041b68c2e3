#!/bin/sh
# gwtf train --chaos: a worker kills itself in the backward pass, links are slow and lossy for a
# while; the losses stay those of the undisturbed run, and events.jsonl tells of it all.
. "$(dirname "$0")/lib.sh"

make_data_and_config
set -- --set run.iterations=60
train_whole calm "$@"

train_whole shaken "$@" --chaos 'kill node=2,iteration=16,phase=backward;
    slow node=1,iteration=25,latency_ms=20,for=1; lossy iteration=35,loss=0.02,for=1'
expect_iterations shaken 60
expect_same loss shaken calm 1e-4
[ "$(tells shaken chaos)" -eq 1 ] || fail "$(tells shaken chaos) kills are in events.jsonl"
[ "$(tells shaken lost)" -eq 1 ] || fail "$(tells shaken lost) losses are in events.jsonl"
[ "$(tells shaken network)" -ge 3 ] ||
    fail "$(tells shaken network) changes of links are in events.jsonl"
grep -q '^chaos: node 2: kill -9 in backward of iteration 16' "$scratch/shaken.log" ||
    fail 'the log does not tell of the kill'
expect_nothing_left 'a kill and bad links'

# With nothing kept, the iteration begins anew.
train_whole anew "$@" --set 'faults.repair="restart"' --chaos 'kill node=2,iteration=16,phase=aggregation'
expect_iterations anew 60
expect_same loss anew calm 1e-4
[ "$(tells anew begun_anew)" -ge 1 ] || fail 'nothing begins anew'
expect_nothing_left 'a kill with nothing kept'
