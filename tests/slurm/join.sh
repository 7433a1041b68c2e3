#!/bin/sh
# slurm/join.sbatch on a real Slurm: jobs of their own join a run that another job trains. One is told by Slurm that
# its time is nearly over, and leaves; one is killed with all it has; the losses are those of the run alone.
. "$(dirname "$0")/lib.sh"

unshare --uts true 2>/dev/null || skip 'no namespaces can be made'
hosts_have_names=yes
start_slurm
make_data_and_config

joins() {
    [ "$(tells "$1" joined)" -ge "$2" ]
}
leaves() {
    [ "$(tells "$1" left)" -ge "$2" ]
}
misses() {
    [ "$(tells "$1" lost)" -ge "$2" ]
}
# submit_join LOG [OPTION of sbatch...]: the job's number in $job
submit_join() {
    log=$1
    shift
    job=$(GWTF=$gwtf GWTF_NOTICE=20 sbatch --parsable -p cloud --cpus-per-task=1 --time=10 \
        --output="$scratch/$log.log" "$@" "$source/slurm/join.sbatch" "$scratch/joined") ||
        fail "sbatch does not take $log"
}

# On one node, as Open MPI 4.1 asks of a run that others join; and all nodes are one machine.
export GWTF_INTERFACES=127.0.0.0/8
cat >"$scratch/slow.cfg" <<'TOPOLOGY'
topology = { regions = [ "here" ]; within_region = { latency_ms = 10.0; bandwidth_mbit = 1000; }; links = ( ); };
TOPOLOGY
submit joined uni -N1 -- --set run.iterations=100000 --set 'optimizer.decay="none"' --set pipeline.stages=1 \
    --set nodes.1.count=1 --set "network.emulate=\"$scratch/slow.cfg\""
train=$job
wait_until 60 has_reached joined 5 || fail 'the run does not come to iteration 5'

submit_join first
first=$job
wait_until 60 joins joined 1 || fail 'the first job does not join'
submit_join second
second=$job
wait_until 60 joins joined 2 || fail 'the second job does not join'

scancel --signal=USR1 --batch "$first" || fail 'scancel --signal'
wait_until 40 leaves joined 1 || fail 'who is told that its time is over does not leave'
wait_until 30 job_has_ended "$first" || fail "the first job is $(job_state "$first")"
[ "$(job_state "$first")" = COMPLETED ] || fail "the job of a node that left is $(job_state "$first")"
[ "$(tells joined lost)" -eq 0 ] || fail 'leaving counts as a loss'

scancel --signal=KILL --full "$second" || fail 'scancel --signal=KILL'
wait_until 30 misses joined 1 || fail 'nobody misses who was killed'
submit_join third
third=$job
wait_until 60 joins joined 3 || fail 'the place of one that was killed is not taken again'

reached=$(($(last_iteration joined) + 20))
wait_until 60 has_reached joined "$reached" || fail 'the run does not go on'
scancel --signal=TERM --batch "$train" || fail 'scancel of the run'
wait_until 40 job_has_ended "$train" || fail "the run is $(job_state "$train")"
wait_until 30 job_has_ended "$third" || fail "the job that joined last is $(job_state "$third")"
reached=$(last_iteration joined)
expect_iterations joined "$reached"
train_whole alone --local --set 'optimizer.decay="none"' --set pipeline.stages=1 \
    --set "run.iterations=$reached"
expect_same loss joined alone 1e-4
sbatch -p cloud --wait --cpus-per-task=1 --output="$scratch/refused.log" "$source/slurm/join.sbatch" >/dev/null 2>&1 &&
    fail 'a job that joins nothing is well'
grep -q '^usage: sbatch slurm/join.sbatch RUN' "$scratch/refused.log" || fail 'no usage'
expect_nothing_left joined
