#!/bin/sh
# The other family: a LLaMA whose heads share keys and values trains on seven processes as in one;
# a snapshot of it resumes on fewer, is measured and exported, and gives what a lost stage is made of.
. "$(dirname "$0")/lib.sh"

make_data_and_config
restarts=1
set -- --set 'model.family="llama"' --set model.heads=4 --set model.key_value_heads=2 \
    --set model.hidden=80 --set run.iterations=30 --set snapshot.every=10 --set snapshot.keep=0
train_whole local --local "$@"
train_whole distributed "$@"
expect_iterations distributed 30
expect_same loss distributed local 1e-4
expect_same gradient_norm distributed local 1e-3
expect_same validation_loss distributed local 1e-4
expect_equal_replicas distributed 7
grep -q 'llama, .* million parameters' "$scratch/distributed.log" || fail 'no line names the family'
awk 'NR == 1 && $2 < 5 { exit 1 } { last = $2 } END { exit !(last < 4.5) }' "$scratch/b.values" ||
    fail 'the model has not learnt anything'
expect_nothing_left 'training'

cp -r "$scratch/distributed" "$scratch/fewer"
rm -r "$(step_folder fewer 20)" "$(step_folder fewer 30)"
train_whole fewer "$@" --resume --set nodes.1.count=3
expect_iterations fewer 30
expect_same loss fewer local 1e-4
expect_nothing_left 'resuming with three relays'

"$gwtf" inspect "$scratch/fewer" >"$scratch/inspect.log" 2>&1 || fail 'inspect ended badly'
grep -q 'llama: 3 layers, width 32, 4 heads, 2 of keys and values, hidden 80,' \
    "$scratch/inspect.log" || fail 'inspect does not say what model it is'
grep -q 'model.layers.2.self_attn.k_proj.weight  *16 x 32' "$scratch/inspect.log" ||
    fail 'inspect shows no keys of two heads'
"$gwtf" eval "$scratch/fewer" --data "$scratch/validation.h5" --sequences 16 --json \
    >"$scratch/eval.log" 2>&1 || fail 'eval ended badly'
measured=$(values fewer validation_loss | tail -n 1 | cut -d ' ' -f 2)
sed -n 's/.*"loss": *\([0-9.e+-]*\).*/\1/p' "$scratch/eval.log" | awk -v measured="$measured" '
    { apart = $1 - measured; found = apart < 1e-5 && apart > -1e-5 }
    END { exit !found }' || fail "eval does not measure $measured"

"$gwtf" export "$scratch/fewer" -o "$scratch/hf" >"$scratch/export.log" 2>&1 ||
    fail 'export ended badly'
grep -q '"num_key_value_heads": *2' "$scratch/hf/config.json" || fail 'config.json has other heads'
grep -q '"model.layers.2.self_attn.k_proj.weight":{"dtype":"F32","shape":\[16,32\]' \
    "$scratch/hf/model.safetensors" || fail 'the export has no keys of two heads'

train_whole lost "$@" --chaos 'kill node=2,iteration=12; kill node=5,iteration=12' \
    --set 'faults.stage_loss="neighbours"'
expect_iterations lost 30
grep -q 'restart 1 of 1: .*stage 2 is the average of its neighbours' "$scratch/lost.log" ||
    fail 'it did not go on from the neighbours'
expect_equal_replicas lost 7
expect_nothing_left 'a stage made from its neighbours'
