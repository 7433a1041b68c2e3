#!/bin/sh
# The command simulate as a user has it: what it prints, where, and with which exit code.
#
# usage: sh test_simulate.sh GWTF
set -u

gwtf=$1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch" || exit 1
failed=0
checked=0

fail() {
    echo "FAILED: $1"
    sed 's/^/    stdout: /' out
    sed 's/^/    stderr: /' err
    failed=$((failed + 1))
}

run() {
    "$gwtf" "$@" >out 2>err
    code=$?
    checked=$((checked + 1))
}

# bad TEXT ARGUMENT...: ends with 2, says one line on stderr that holds TEXT, nothing on stdout.
bad() {
    text=$1
    shift
    run "$@"
    [ "$code" -eq 2 ] || fail "gwtf $*: exit code $code in place of 2"
    [ "$(wc -l <err)" -eq 1 ] || fail "gwtf $*: not one line on stderr"
    grep -q '^gwtf: .*: ' err || fail "gwtf $*: the line does not start with gwtf:"
    grep -qF -- "$text" err || fail "gwtf $*: the line does not hold '$text'"
    [ ! -s out ] || fail "gwtf $*: something on stdout"
}

# good TEXT ARGUMENT...: ends with 0, says nothing on stderr, and TEXT on stdout.
good() {
    text=$1
    shift
    run "$@"
    [ "$code" -eq 0 ] || fail "gwtf $*: exit code $code"
    [ ! -s err ] || fail "gwtf $*: something on stderr"
    grep -qF -- "$text" out || fail "gwtf $*: no '$text' on stdout"
}

# The last output is JSON, for which the Python expression is true.
json() {
    command -v python3 >/dev/null || return 0
    python3 -c "import json,sys; j=json.load(open('out')); sys.exit(not ($1))" ||
        fail "the JSON is not as expected: $1"
}

good 'seconds per iteration' simulate laptop
good '"policy": "gwtf-paper"' simulate laptop --policy gwtf-paper --json
json 'j["completed"] == j["asked"] == 40 and j["lost"] == 0 and j["recoveries"] == 0'
json 'j["seconds_per_iteration"] > 0 and j["microbatches_per_second"] > 0'
json 'j["wasted_compute"] < 1e-12 and j["recovery_seconds_median"] is None'
json 'len(j["seconds"]) == 10 and len(j["stage_utilisation"]) == 4'
good '"results"' simulate ten-regions-18 --iterations 3 --compare gwtf,gwtf,gwtf-paper --json
json 'j["results"][0] == j["results"][1] and j["results"][0] != j["results"][2]'
json 'all(r["iterations"] == 3 and r["completed"] == 48 for r in j["results"])'
good '"seed": 7' simulate laptop --iterations 1 --seed 7 --set batch.microbatches=2 --json
json 'j["asked"] == 2 and j["iterations"] == 1'
for scenario in university university-cloud ten-regions-100; do
    good 'compute wasted' simulate $scenario --iterations 1
done

bad "there is no scenario 'univercity': did you mean 'university'?" simulate univercity
bad "there is no scenario 'no/such.cfg'" simulate no/such.cfg
bad "unknown key 'churn.probabilty': did you mean 'churn.probability'?" \
    simulate laptop --set churn.probabilty=0.1
bad '--set churn.probability=2' simulate laptop --churn 2
bad '--set run.iterations=0' simulate laptop --iterations 0
bad "there is no policy 'gwft': did you mean 'gwtf'?" simulate laptop --policy gwft
bad 'policy static has no one to assign' simulate laptop --compare gwtf,static
bad "there is no policy ''" simulate laptop --compare gwtf,
bad '--policy and --compare are both given' simulate laptop --policy gwtf --compare gwtf
bad 'more than 11' simulate laptop \
    --compare gwtf,gwtf,gwtf,gwtf,gwtf,gwtf,gwtf,gwtf,gwtf,gwtf,gwtf,gwtf
bad 'unknown region' simulate laptop --set nodes.1.region=desk
bad 'cannot open' simulate laptop --set network.topology=none.cfg
bad 'nodes.0: 0.0001 GB do not hold one microbatch' simulate laptop \
    --set nodes.0.capacity=0 --set nodes.0.memory_gb=0.0001
bad 'has more nodes than the 1024' simulate laptop --set nodes.1.count=4000

echo "$checked checked, $failed failed"
[ "$failed" -eq 0 ]
