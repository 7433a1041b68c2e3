#!/bin/sh
# Preemption where Slurm cancels the jobs that it takes nodes from, rather than to requeue them: with
# a grace time the run has its job queued again before it is cancelled, and goes on by itself; where
# that is not allowed, a snapshot is there, and the next job goes on from it.
. "$(dirname "$0")/lib.sh"

start_slurm
make_data_and_config
train_whole long --local --set run.iterations=160
cat >"$scratch/brisk.cfg" <<TOPOLOGY
topology = { regions = [ "here" ]; within_region = { latency_ms = 4.0; bandwidth_mbit = 1000; };
             links = ( ); };
TOPOLOGY

# train_spare NAME [OPTION of sbatch]...: in the partition whose jobs are cancelled.
train_spare() {
    name=$1
    shift
    submit "$name" spare "$@" --exclusive -- --set run.iterations=160 \
        --set "network.emulate=\"$scratch/brisk.cfg\""
}
# preempt NAME [OPTION of sbatch]...: once NAME has reached iteration 20, another job takes its nodes.
preempt() {
    train_spare "$@"
    wait_until 90 has_reached "$1" 20 || fail "$1 does not come to iteration 20"
    sbatch -p urgent -N2 --exclusive -o /dev/null --wrap true >/dev/null
}
# has_stopped NAME: with a snapshot, of iteration $stopped_at.
has_stopped() {
    stopped_at=$(newest_step "$1")
    if [ "$stopped_at" -lt 20 ] || [ "$stopped_at" -ge 160 ]; then
        fail "$1 left no snapshot, or has run on: its newest is of $stopped_at"
    fi
}
# goes_on NAME: the job trains to the end, after that snapshot.
goes_on() {
    wait_until 120 job_is "$job" COMPLETED || fail "the job of $1 is $(job_state "$job")"
    [ "$(tells "$1" resumed)" -eq 1 ] || fail "$1 has not resumed once"
    grep -q "\"event\":\"resumed\",\"iteration\":$stopped_at," "$scratch/$1/events.jsonl" ||
        fail "$1 did not go on after iteration $stopped_at"
    expect_iterations "$1" 160
    expect_same loss "$1" long 1e-5
}

preempt graced
wait_until 30 restarted "$job" || fail "the job is not queued again: $(job_state "$job")"
has_stopped graced
goes_on graced

preempt final --no-requeue
wait_until 30 job_has_ended "$job" || fail "the job is not over: $(job_state "$job")"
if restarted "$job"; then
    fail 'the job was queued again'
fi
has_stopped final
grep -q "job $job is not requeued: .*; submit it again to go on" "$scratch/final.log" ||
    fail 'its log does not say what to do'
train_spare final
goes_on final
expect_nothing_left 'the jobs'
