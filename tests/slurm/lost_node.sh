#!/bin/sh
# slurm/train-het.sbatch on a real Slurm: workers in both partitions, data nodes in the first, each
# stage in both. A node whose slurmd and processes are killed takes only its workers with it: the run
# goes on to the end, with the losses of one that nothing has disturbed.
. "$(dirname "$0")/lib.sh"

start_slurm
make_data_and_config
train_whole long --local --set run.iterations=160

sed 's/^#SBATCH --cpus-per-task=4/#SBATCH --cpus-per-task=2/; s/^#SBATCH --time=.*/#SBATCH --time=10/' \
    "$source/slurm/train-het.sbatch" >"$scratch/het.sbatch"
cat >"$scratch/brisk.cfg" <<TOPOLOGY
topology = { regions = [ "here" ]; within_region = { latency_ms = 4.0; bandwidth_mbit = 1000; };
             links = ( ); };
TOPOLOGY
job=$(GWTF=$gwtf sbatch --parsable --output="$scratch/het.log" "$scratch/het.sbatch" \
    "$scratch/config.cfg" --set "run.directory=\"$scratch/het\"" --set run.iterations=160 \
    --set "network.emulate=\"$scratch/brisk.cfg\"") || fail 'sbatch does not take it'
wait_until 90 has_reached het 20 || fail 'the run does not come to iteration 20'

# Seven nodes on four hosts, of which two are of each partition.
node_values het stage >"$scratch/stages.values"
node_values het host >"$scratch/hosts.values"
awk 'NR == FNR { stage[$1] = $2; next }
    {
        host[$2]++
        if (stage[$1] == 0 && $2 !~ /^uni/) exit bad = 1
        parts[stage[$1] " " substr($2, 1, 3)]++
    }
    END {
        if (bad) exit 1
        for (s = 1; s <= 3; s++) if (parts[s " uni"] != 1 || parts[s " clo"] != 1) exit 1
        exit !(host["uni1"] && host["uni2"] && host["cloud1"] && host["cloud2"])
    }' "$scratch/stages.values" "$scratch/hosts.values" ||
    fail "the nodes are not spread: $(paste "$scratch/stages.values" "$scratch/hosts.values")"
"$gwtf" status "$scratch/het" >"$scratch/status.log" 2>&1 || fail 'no status'
grep -q "^job  *$job: uni on uni\[1-2\], cloud on cloud\[1-2\]$" "$scratch/status.log" ||
    fail 'the status does not tell of the job'

# A machine that is gone: its slurmd, and all that it had started.
lose_machine() {
    kill -9 "$(cat "$slurm/slurmd-$1.pid")"
    for pid in $(processes); do
        if tr '\0' '\n' 2>/dev/null <"/proc/$pid/environ" | grep -qxF "SLURMD_NODENAME=$1"; then
            kill -9 "$pid" 2>/dev/null || true
        fi
    done
}
lost=$(awk -v host=cloud2 '$2 == host { n++ } END { print n + 0 }' "$scratch/hosts.values")
[ "$lost" -ge 1 ] || fail 'nobody works on cloud2'
lose_machine cloud2
at=$(last_iteration het)
[ "$at" -lt 150 ] || fail 'the run was nearly over before the machine was lost'

wait_until 90 job_has_ended "$job" || fail "the job is $(job_state "$job")"
expect_iterations het 160
expect_same loss het long 1e-5
[ "$(values het nodes | tail -n 1 | cut -d ' ' -f 2)" -eq $((7 - lost)) ] ||
    fail "not $((7 - lost)) nodes at the end"
[ "$(tells het restarted)" -eq 0 ] || fail 'the run was started again'
grep -q 'what ran has ended on cloud2' "$scratch/het/train.log" || fail 'the log does not tell of the loss'
