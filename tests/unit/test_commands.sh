#!/bin/sh
# The commands tokenize, status and inspect as a user has them: what they print, where, and with
# which exit code.
#
# usage: sh test_commands.sh GWTF MAKE_RUN
set -u

gwtf=$1
make_run=$2
. "$(dirname "$0")/command_lib.sh"

# gwtf itself
good 'usage: gwtf COMMAND' --help
holds 'tokenize'
good 'gwtf 0.' --version
bad 2 'no command'
bad 2 "did you mean 'gwtf tokenize'?" tokenzie
bad 2 'see gwtf --help' xyzzy
bad 2 'see gwtf --help' ''
for command in tokenize status inspect; do
    good 'example:' "$command" --help
    holds "usage: gwtf $command"
    bad 2 'an argument is missing' "$command"
    bad 2 "did you mean '--json'?" "$command" --jsn x
    bad 2 'unknown option' "$command" -z x
    bad 2 'takes no value' "$command" --json=yes x
done
bad 2 'one argument too many' status a b
"$gwtf" --help >/dev/full 2>err
[ $? -eq 1 ] || fail 'a full output is not noticed'

# tokenize
printf 'In the beginning God created the heaven and the earth. ' >text
for i in 1 2 3 4 5; do cat text text >more && mv more text; done
: >empty
mkdir folder
bad 2 '--output is missing' tokenize text
bad 2 "option '--output' needs a value" tokenize text --output
bad 2 'is given twice' tokenize text --output a.h5 --output b.h5
bad 2 "cannot open 'absent'" tokenize absent --output a.h5
bad 2 "'empty' is empty" tokenize empty --output a.h5
bad 2 "'folder' is not a file" tokenize folder --output a.h5
bad 2 "'text' is the text itself" tokenize text --output text
bad 2 "cannot write 'none/a.h5'" tokenize text --output none/a.h5
bad 2 'without a file' tokenize text --output a.h5 --validation-share 0.1
bad 2 'without a share' tokenize text --output a.h5 --validation-output b.h5
for share in 0 1 -0.5 1.5 x '' nan 0.1x; do
    bad 2 "--validation-share is '$share'" \
        tokenize text --output a.h5 --validation-share "$share" --validation-output b.h5
done
bad 2 'two names' tokenize text --output a.h5 --validation-share 0.1 --validation-output a.h5
[ "$(ls)" = "$(printf 'empty\nerr\nfolder\nout\ntext')" ] || fail 'files are left behind'
good 'a.h5: 1584 tokens' \
    tokenize text --output a.h5 --validation-share 0.1 --validation-output b.h5
holds 'b.h5: 176 tokens (bytes, vocabulary 256)'
good '"tokens": 1760' tokenize --json text --output a.h5
json 'j["tokenizer"] == "bytes" and j["vocabulary"] == 256 and len(j["sha256"]) == 64'
json 'j["sha256"] == __import__("hashlib").sha256(open("text","rb").read()).hexdigest()'
json 'j["files"] == [{"path": "a.h5", "tokens": 1760, "largest": 118}]'

# status
for phase in waiting starting training failed stopped finished; do
    "$make_run" "$phase" "$phase" || fail "make_run $phase"
    good "phase       $phase: " status "$phase"
    good "\"phase\": \"$phase\"" status "$phase" --json
    json 'j["iterations"] == 100'
done
good 'iteration   40 of 100 (40 %)' status training
holds 'loss        4.6000, validation 4.7500 after iteration 30'
holds 'speed       64 tokens/s'
# 60 iterations of two seconds.
holds 'time left   2 min 0 s'
holds 'snapshot    step 40: training/snapshots/step-000040'
holds '   1  stage 1  training         40         4  uni1  '
holds '   0  data     training         40         4  uni0  '
holds 'lost             40     2  silent for 2 s'
good 'node 1 says: the disk is full' status failed
good 'snapshot    none yet' status waiting
good '"seconds_left": 120' status training --json
json 'len(j["nodes"]) == 3 and j["nodes"][2]["host"] == "uni2" and j["snapshot"]["step"] == 40'
json '[e["event"] for e in j["events"]] == ["started", "snapshot", "snapshot", "lost"]'
# A state file from long ago: nobody works on it any more.
cp -r training stale
for file in stale/nodes/*.json; do
    sed 's/"updated_unix_us": [0-9]*/"updated_unix_us": 1700000000000000/' "$file" >edited &&
        mv edited "$file"
done
good 'phase       stale: no node has been heard of for' status stale
holds 'ago, silent'
# A node that loads a large stage is silent for a while: two minutes are not too long.
cp -r starting loading
for file in loading/nodes/*.json; do
    sed "s/\"updated_unix_us\": [0-9]*/\"updated_unix_us\": $(($(date +%s) - 120))000000/" "$file" >edited &&
        mv edited "$file"
done
good 'phase       starting: ' status loading
# A line that is being written does not hide the others.
printf '{"iteration":41,"lo' >>training/metrics.jsonl
good 'iteration   40 of 100' status training
bad 2 "'none' is not a run's directory" status none
bad 2 "'folder' is not a run's directory" status folder
bad 2 "'text' is not a run's directory" status text

# top: without a terminal a line at each look, until the run is over.
good 'usage: gwtf top' top --help
bad 2 'an argument is missing' top
bad 2 "'nowhere' is not a run's directory" top nowhere
bad 2 "--interval is '0'" top training --interval 0
good 'training: iteration 40 of 100  loss 4.6000  64 tokens/s' top training --count 2 --interval 0.1
[ "$(wc -l <out)" -eq 2 ] || fail 'not two lines for two looks'
good 'finished: iteration 100 of 100' top finished --interval 0.1
[ "$(wc -l <out)" -eq 1 ] || fail 'more than a line of a run that is over'
# On one a screen: its lines, a letter that ends it, and the terminal as it was.
if command -v script >/dev/null; then
    printf 'q' | TERM=xterm script -qec "stty rows 40 cols 100; '$gwtf' top training" typescript >out 2>&1 ||
        fail 'top on a terminal'
    holds 'training: iteration 40 of 100'
    holds 'stage 1'
    holds 'silent for 2 s'
    grep -q "$(printf '\033')\[?1049l" out || fail 'top does not give the screen back'
    rm -f typescript
fi

# inspect
good 'step        40' inspect training
holds '    1  h.0.bias     32       float32'
holds '    0  wte.weight   10 x 32  float32'
holds 'parameters  1024'
good 'step        20' inspect training/snapshots/step-000020
good 'step        40' inspect training/snapshots
good '"step": 20' inspect --json training/snapshots/step-000020/
json '[t["name"] for t in j["tensors"]] == ["wte.weight", "ln_f.weight", "h.1.weight", "h.0.bias", "h.2.weight"]'
json 'j["tensors"][0]["shape"] == [10, 32] and j["tensors"][3]["shape"] == [32]'
json 'abs(j["tensors"][0]["deviation"] - 1) < 0.2 and j["tensors"][0]["largest"] > 2'
bad 2 "cannot open 'none'" inspect none
bad 2 "'text' is a file" inspect text
bad 2 "'folder' is neither a snapshot nor a run" inspect folder
bad 2 'no whole snapshot' inspect waiting
cp -r training damaged
newest=damaged/snapshots/step-000040
printf x | dd of=$newest/stage-01.h5 bs=1 seek=3000 conv=notrunc 2>/dev/null
bad 1 "'$newest/stage-01.h5' is damaged" inspect $newest
run inspect damaged
[ "$code" -eq 0 ] || fail 'the older snapshot is not used'
grep -qF "gwtf: warning: '$newest/stage-01.h5' is damaged" err || fail 'the damage is not said'
holds 'step        20'
rm $newest/manifest.cfg
bad 1 'never finished' inspect $newest
: >$newest/manifest.cfg
bad 1 "manifest.cfg' is cut or damaged" inspect $newest
rm $newest/stage-00.h5
bad 1 'manifest.cfg' inspect $newest

# route
good 'cost ' route --generate relays=12,stages=3,seed=4 --output small.cfg
holds 'instance      relays12-stages3: 12 relays in 3 stages, 1 data node'
holds 'settled       after '
good '"settled": true' route small.cfg --json
json 'j["flow"] == j["optimal_flow"] and j["cost"] >= j["optimal_cost"] > 0 and j["optimal_exact"]'
json 'j["max_path_cost"] >= j["optimal_max_path_cost"] and j["ratio"] >= 1'
json 'abs(j["seconds"] - 0.2 * j["rounds"]) < 1e-6 and j["bytes"] > j["messages"] > 0'
cp out first
good '"settled": true' route small.cfg --json
cmp -s out first || fail 'the same route prints something else'
good '"policy": "optimal"' route small.cfg --policy optimal --json
json 'j["flow"] == j["optimal_flow"] and j["cost"] == j["optimal_cost"] and j["messages"] == 0'
good '"settled": false' route small.cfg --rounds 1 --json
good 'settled       no, stopped after 1.0 rounds' route small.cfg --rounds 1
good '"settled": true' route small.cfg --kill 5@20 --revive 5@40 --link 1-5=cut@50 --json --trace trace
json 'j["rounds"] >= 50 and "optimal_cost" in j'
grep -q '^round [0-9.]*  node [0-9]*  stage [0-9]*  [0-9]* hops:  ' trace || fail 'the trace is not readable'
good '"settled": true' route small.cfg --no-optimum --json
json '"optimal_cost" not in j'
bad 2 'an argument is missing' route
bad 2 'there are two instances' route small.cfg --generate relays=9
bad 2 '--output is given without' route small.cfg --output x.cfg
bad 2 "cannot open 'absent'" route absent
bad 2 'text:1: ' route text
bad 2 "--policy is 'gwft': did you mean 'gwtf'?" route small.cfg --policy gwft
bad 2 '--objective max is for policies gwtf and gwtf-paper' route small.cfg --objective max --policy swarm
good '"settled": true' route small.cfg --objective max --json
bad 2 "--objective is 'least': give sum or max" route small.cfg --objective least
good '"settled": true' route small.cfg --policy gwtf-paper --objective max --json
bad 2 "--loss is '2': give a number" route small.cfg --loss 2
bad 2 "--seed is '1.5': give a whole number" route small.cfg --seed 1.5
bad 2 "--kill is '5': write NODE@ROUND" route small.cfg --kill 5
bad 2 "--kill is '50@3': give a node" route small.cfg --kill 50@3
bad 2 "--link is '5-1=3@3': give a node and one of the stage after it" route small.cfg --link 5-1=3@3
bad 2 "--generate: relays is '0'" route --generate relays=0
bad 2 'no way leads over all stages' route --generate relays=3,stages=3,missing=0.99
bad 2 "cannot write 'none/trace'" route small.cfg --trace none/trace
sed 's/capacity = \[ [0-9]*/capacity = [ -1/' small.cfg >negative.cfg
bad 2 'negative.cfg:9: the capacity of node 0 is -1: give one from 0' route negative.cfg

# train --chaos
bad 2 "--chaos: unknown fault 'kil': did you mean 'kill'?" train x.cfg --chaos 'kil every=3'
bad 2 'give kill, stop, slow, cut or lossy' train x.cfg --chaos ''
bad 2 "'node' after stop is no KEY=VALUE" train x.cfg --chaos 'kill; stop node'
bad 2 'leave one out' train x.cfg --local --chaos kill

finish 100
