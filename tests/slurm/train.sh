#!/bin/sh
# slurm/train.sbatch on a real Slurm: a job trains to the end; one that is requeued, one whose time
# is over and one that is preempted go on by themselves; and all have the losses of a run that
# nothing has disturbed.
. "$(dirname "$0")/lib.sh"

start_slurm
make_data_and_config
train_whole alone --local
train_whole long --local --set run.iterations=160

# Messages that take a while make runs last longer, at no cost to the others.
make_topology() {
    cat >"$scratch/$1.cfg" <<TOPOLOGY
topology = { regions = [ "here" ]; within_region = { latency_ms = $2; bandwidth_mbit = 1000; };
             links = ( ); };
TOPOLOGY
}
make_topology slow 20.0
make_topology brisk 4.0

# Its time is over after 15 to 45 seconds: Slurm looks every half minute. It runs beside the others,
# and once is enough: then it gets more time.
submit limited cloud --time=1 --signal=B:USR1@45 -- --set run.iterations=160 \
    --set "network.emulate=\"$scratch/slow.cfg\""
limited=$job
(wait_until 60 restarted "$limited" && scontrol update job="$limited" TimeLimit=10) &

# To the end.
submit whole uni
wait_until 60 job_is "$job" COMPLETED || fail "the job is $(job_state "$job")"
expect_iterations whole 50
expect_same loss whole alone 1e-5
expect_equal_replicas whole 7
"$gwtf" status "$scratch/whole" >"$scratch/status.log" 2>&1 || fail 'no status'
grep -q "^job  *$job: uni on uni\[1-2\]$" "$scratch/status.log" || fail 'the status does not tell of the job'
# Stages 1 to 3, of two relays each: one on each node, and the data node where the job began.
node_values whole stage >"$scratch/stages.values"
node_values whole host >"$scratch/hosts.values"
awk 'NR == FNR { stage[$1] = $2; next }
    { seen[stage[$1] " " $2]++ }
    END {
        for (s = 1; s <= 3; s++)
            for (h = 1; h <= 2; h++)
                if (seen[s " uni" h] != 1) exit 1
        exit seen["0 uni1"] != 1
    }' "$scratch/stages.values" "$scratch/hosts.values" ||
    fail "the nodes are not spread: $(paste "$scratch/stages.values" "$scratch/hosts.values")"

# Each node has told of itself in a log of its own.
for node in 0 1 2 3 4 5 6; do
    grep -q "Z gwtf: node $node: stage .* on uni[12], process .* with fresh weights$" \
        "$scratch/whole/logs/node-000$node.log" || fail "node $node has no log"
done
grep -q 'Z gwtf: node 3: ends after iteration 50: ok' "$scratch/whole/logs/node-0003.log" ||
    fail 'node 3 does not tell how it ended'

# Requeued by an operator in mid-run: what was not in a snapshot is trained again.
submit requeued uni -- --set run.iterations=160 --set snapshot.every=10
wait_until 60 has_reached requeued 45 || fail 'requeued does not come to iteration 45'
scontrol requeue "$job" || fail 'scontrol requeue'
wait_until 90 job_is "$job" COMPLETED || fail "the requeued job is $(job_state "$job")"
[ "$(tells requeued resumed)" -eq 1 ] || fail 'the requeued job did not resume'
[ "$(scontrol -o show job "$job" | sed -n 's/.*Restarts=\([0-9]*\).*/\1/p')" -eq 1 ] ||
    fail 'the job has not been restarted once'
expect_iterations requeued 160
expect_same loss requeued long 1e-5

# Another job wants the nodes: those of this one hear of it, and a snapshot comes first.
submit preempted uni --exclusive -- --set run.iterations=160 \
    --set "network.emulate=\"$scratch/brisk.cfg\""
wait_until 60 has_reached preempted 20 || fail 'preempted does not come to iteration 20'
sbatch -p urgent -N2 --exclusive -o /dev/null --wrap true >/dev/null
wait_until 30 restarted "$job" || fail 'the preempted job is not queued again'
stopped_at=$(newest_step preempted)
[ "$stopped_at" -ge 20 ] || fail 'the preempted job left no snapshot'
wait_until 90 job_is "$job" COMPLETED || fail "the preempted job is $(job_state "$job")"
grep -q "\"event\":\"resumed\",\"iteration\":$stopped_at," "$scratch/preempted/events.jsonl" ||
    fail "the preempted job did not go on after iteration $stopped_at"
expect_iterations preempted 160
expect_same loss preempted long 1e-5

# The one whose time was over.
wait_until 60 restarted "$limited" || fail 'the time of the limited job was never over'
wait_until 120 job_is "$limited" COMPLETED || fail "the limited job is $(job_state "$limited")"
[ "$(tells limited stopped)" -ge 1 ] || fail 'the limited job was not stopped with a snapshot'
[ "$(tells limited resumed)" -ge 1 ] || fail 'the limited job did not resume'
grep -q "job $limited is requeued" "$scratch/limited.log" || fail 'its log does not say so'
expect_iterations limited 160
expect_same loss limited long 1e-5
expect_nothing_left 'the jobs'
