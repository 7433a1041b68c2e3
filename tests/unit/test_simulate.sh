#!/bin/sh
# The command simulate as a user has it: what it prints, where, and with which exit code.
#
# usage: sh test_simulate.sh GWTF
set -u

gwtf=$1
. "$(dirname "$0")/command_lib.sh"

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

# Each kind of trouble, planned for iteration 2, shows there and costs no microbatch.
trouble() {
    good '"ended": "whole"' simulate ten-regions-18 --iterations 3 --json "$@"
    json 'j["completed"] == j["asked"] == 48'
}
for phase in forward backward aggregation any; do
    trouble --set "crashes=({ iteration = 2; node = 5; phase = \"$phase\"; })"
    json 'j["crashes"] == 1 and j["recoveries"] > 0 and j["wasted_by_crashed"] > 0'
done
trouble --set 'link_faults=({ iteration = 2; node = 5; kind = "cut"; })'
json 'j["crashes"] == j["link_faults"] == 1'
trouble --set 'link_faults=({ iteration = 2; node = 5; factor = 10.0; heal_after = 1; })'
json 'j["crashes"] == 0 and j["link_faults"] == 1'
# Its gradients go through those links too, ten times as slowly; then they do not.
json 'j["seconds"][1] > 3 * j["seconds"][0] and j["seconds"][2] < j["seconds"][0]'
trouble --set 'links={ probability = 1.0; factor = 2.0; }'
json 'j["link_faults"] > 18 and j["crashes"] == 0'

# Who is lost comes back, where that is wanted.
good '"ended": "whole"' simulate ten-regions-18 --iterations 5 --json \
    --set 'crashes=({ iteration = 2; node = 5; return_after = 1; })'
json 'j["crashes"] == j["returned"] == 1 and j["lost"] == 0'
trouble --set 'crashes=({ iteration = 2; node = 5; })'
json 'j["crashes"] == 1 and j["returned"] == 0'

# Nodes come where they do most good, go, and move to the stage that lost most of its nodes.
good '"ended": "whole"' simulate volunteers --json
json 'j["joined"] == 8 and j["left"] == 2 and j["lost"] == 0 and j["crashes"] == 0'
json 'j["seconds"][10] < 0.6 * j["seconds"][2]'
json '1 <= j["moved"] <= 2 and j["seconds"][59] < 0.8 * j["seconds"][33]'
good '"moved": 0' simulate volunteers --json --set run.rebalance=false
json 'j["seconds"][59] > 0.98 * j["seconds"][33]'
bad 2 'nodes.0 is a data node that joins or leaves' simulate volunteers --set nodes.0.joins=3
bad 2 'nodes.6.leaves is 4, but the nodes join in iteration 5' simulate volunteers --set nodes.6.leaves=4
bad 2 'stage 1 has no relay' simulate volunteers --set nodes.1.joins=3 --set nodes.5.joins=3 --set nodes.5.leaves=0

bad 2 "there is no scenario 'univercity': did you mean 'university'?" simulate univercity
bad 2 "there is no scenario 'no/such.cfg'" simulate no/such.cfg
bad 2 "unknown key 'churn.probabilty': did you mean 'churn.probability'?" \
    simulate laptop --set churn.probabilty=0.1
bad 2 '--set churn.probability=2' simulate laptop --churn 2
bad 2 '--set run.iterations=0' simulate laptop --iterations 0
bad 2 "there is no policy 'gwft': did you mean 'gwtf'?" simulate laptop --policy gwft
bad 2 'policy static has no one to assign' simulate laptop --compare gwtf,static
bad 2 "there is no policy ''" simulate laptop --compare gwtf,
bad 2 '--policy and --compare are both given' simulate laptop --policy gwtf --compare gwtf
bad 2 'more than 11' simulate laptop \
    --compare gwtf,gwtf,gwtf,gwtf,gwtf,gwtf,gwtf,gwtf,gwtf,gwtf,gwtf,gwtf
bad 2 'unknown region' simulate laptop --set nodes.1.region=desk
bad 2 'cannot open' simulate laptop --set network.topology=none.cfg
bad 2 'nodes.0: 0.0001 GB do not hold one microbatch' simulate laptop \
    --set nodes.0.capacity=0 --set nodes.0.memory_gb=0.0001
bad 2 'has more nodes than the 1024' simulate laptop --set nodes.1.count=4000

bad 2 "crashes" simulate laptop --set 'crashes=({ iteration = 1; node = 99; })'
bad 2 "crashes" simulate laptop --set 'crashes=({ iteration = 1; node = 2; phase = "sleep"; })'
bad 2 "link_faults" simulate laptop --set 'link_faults=({ iteration = 1; node = 2; kind = "bent"; })'
bad 2 "links.factor" simulate laptop --set links.factor=0.5

finish 32
