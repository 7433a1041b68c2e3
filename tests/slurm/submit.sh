#!/bin/sh
# gwtf submit on a real Slurm: what is wrong is told in one line before anything is queued, and what
# it writes and submits trains, also as a heterogeneous job.
. "$(dirname "$0")/lib.sh"

start_slurm
make_data_and_config
cd "$scratch"
cp config.cfg good.cfg
wrong=0

# refused PATTERN ARGUMENT...: one line that matches, exit code 2, and nothing is queued or made.
refused() {
    pattern=$1
    shift
    status=0
    "$gwtf" "$@" >out.txt 2>err.txt </dev/null || status=$?
    what=
    [ "$status" -eq 2 ] || what="exit code $status"
    [ "$(wc -l <err.txt)" -eq 1 ] || what="$what, $(wc -l <err.txt) lines"
    grep -qE "^gwtf: .*$pattern" err.txt || what="$what, does not match /$pattern/"
    [ ! -s out.txt ] || what="$what, speaks on stdout"
    [ ! -e run ] || what="$what, made the run's directory"
    [ -z "$(squeue -h)" ] || what="$what, queued a job"
    if [ -n "$what" ]; then
        wrong=$((wrong + 1))
        echo "$story: gwtf $*: $what: $(cat err.txt)" >&2
    fi
}

sed 's/directory = "[^"]*"; //' good.cfg >no-directory.cfg
refused 'run.directory is missing' submit no-directory.cfg
refused "no partition 'elsewhere'" submit good.cfg --partition elsewhere
refused "no partition 'elsewhere'" submit good.cfg --uni uni:1 --cloud elsewhere:1
refused "cloud 'cloud' has no nodes.*--cloud NAME:2" submit good.cfg --uni uni:2 --cloud cloud
refused "cloud 'cloud:0' has no nodes" submit good.cfg --uni uni:2 --cloud cloud:0
refused 'cloud is given without --uni' submit good.cfg --cloud cloud:2
refused 'leave out the one' submit good.cfg --uni uni:1 --cloud cloud:1 --nodes 2
refused '3 stages and the data node need 4 processors, and a job of 1 node.s. offers 2' \
    submit good.cfg --nodes 1
refused "partition 'uni' has 2 nodes, and 3 are asked for" submit good.cfg --partition uni --nodes 3
refused "nodes of partition 'uni' have 2" submit good.cfg --nodes 2 --cpus 4
refused "nodes is 'two'" submit good.cfg --nodes two
refused "cannot read 'absent.sh'" submit good.cfg --nodes 2 --site absent.sh
refused "absent.h5" submit good.cfg --nodes 2 --set data.train=absent.h5
refused "did you mean '--nodes'" submit good.cfg --noeds 2
refused 'sbatch refuses.*(t|T)ime' submit good.cfg --nodes 2 --time soon --set "run.directory=\"$scratch/refused\""
for time in 3 2:31 00:02:31 1-0 0-1:00 0-0:0:151 0 UNLIMITED; do
    refused "time is $time, and partition 'short' gives [0-9:]*:[0-9]* at most" submit good.cfg --nodes 2 \
        --partition short --time "$time"
done
refused "nodes.0.partition is 'elsewhere'" submit good.cfg --nodes 2 --set 'nodes.0.partition="elsewhere"'
refused "nodes.0.partition is 'cloud'" submit good.cfg --nodes 2 --set 'nodes.0.partition="cloud"'
refused 'gpus is .many.: give the GPUs of each node' submit good.cfg --nodes 2 --gpus many
refused 'gpus is .1,2.: give' submit good.cfg --nodes 2 --gpus 1,2
refused 'gpus is .0,-1.: give .* or of both parts' submit good.cfg --uni uni:1 --cloud cloud:1 --gpus 0,-1
refused 'sbatch refuses.*configuration is not available' submit good.cfg --nodes 2 --gpus 1 --partition uni \
    --set "run.directory=\"$scratch/refused\""
refused 'has a line break' submit good.cfg --nodes 2 --name 'two
lines'
[ "$wrong" -eq 0 ] || fail "$wrong cases"

# Where the script goes, and what it asks for.
"$gwtf" submit good.cfg --nodes 2 --time 5 --sbatch=--comment=hello --set model.layers=4 --dry-run >script.txt
for line in '#SBATCH --partition=uni' '#SBATCH --nodes=2' '#SBATCH --cpus-per-task=2' \
    '#SBATCH --time=5' '#SBATCH --comment=hello' '#SBATCH --signal=B:USR1@120' \
    "set -- '$scratch/good.cfg' '--set' 'model.layers=4'" "GWTF='$gwtf'"; do
    [ "$(grep -cxF -- "$line" script.txt)" -eq 1 ] || fail "no line '$line' in the script: $(cat script.txt)"
done
[ "$(grep -c -- '--nodes=' script.txt)" -eq 1 ] || fail 'the nodes are asked for twice'
# asks LINES ARGUMENT...: of its time and notice the script has these lines.
asks() {
    lines=$1
    shift
    "$gwtf" submit good.cfg --nodes 2 "$@" --dry-run >script.txt || fail "submit $*: exit code $?"
    found=$(grep -E '^#SBATCH --(time|signal)=' script.txt | sort)
    [ "$found" = "$lines" ] || fail "submit $* asks for: $found"
}
asks '#SBATCH --signal=B:USR1@120
#SBATCH --time=24:00:00' --partition uni
asks '#SBATCH --signal=B:USR1@30
#SBATCH --time=2:00' --partition short
asks '#SBATCH --signal=B:USR1@15
#SBATCH --time=0:1:0' --partition short --time 0:1:0
asks '#SBATCH --signal=B:USR1@120
#SBATCH --time=2-12' --partition uni --time 2-12
# What sbatch would take apart is quoted; partitions that sinfo does not list are there.
"$gwtf" submit good.cfg --partition urgent --nodes 2 --sbatch='--comment=two "odd" words' --sbatch='--qos low' \
    --dry-run >script.txt || fail 'no job in a hidden partition'
for line in '#SBATCH --comment="two \"odd\" words"' '#SBATCH --qos low'; do
    grep -qxF -- "$line" script.txt || fail "no line '$line' in the script: $(cat script.txt)"
done
"$gwtf" submit good.cfg --nodes 2 --dry-run --json >script.json
python3 -c 'import json; j = json.load(open("script.json")); assert j["job"] is None and j["text"].startswith("#!/bin/sh")' ||
    fail "what --dry-run --json prints is not so: $(cat script.json)"
[ ! -e run ] || fail '--dry-run has made a directory'

# A site file is read before anything is started; a wrong configuration is not queued again and again.
echo "echo the site was read; GWTF_INTERFACES=" >site.sh
"$gwtf" submit good.cfg --nodes 2 --time 5 --site site.sh --json >submit.txt || fail 'it is not submitted'
job=$(sed -n 's/.*"job": "\([0-9]*\)".*/\1/p' submit.txt)
# A directory whose name has what Slurm and shells have uses of their own for, the data in the cloud,
# and a job that keeps most of the environment from srun.
odd="both 50%j it's"
"$gwtf" submit good.cfg --uni uni:2 --cloud cloud:2 --time 5 --sbatch='--comment=two "odd" words' \
    --sbatch=--export=PATH,HOME,SLURM_CONF,GWTF_STORY,TMPDIR --set 'nodes.0.partition="cloud"' \
    --set "run.directory=\"$scratch/$odd\"" >both.txt || fail 'the heterogeneous job is not submitted'
both=$(sed -n 's/^job \([0-9]*\) is submitted.*/\1/p' both.txt)
wait_until 60 job_is "$job" COMPLETED || fail "the job is $(job_state "$job"): $(cat run/run.log)"
expect_iterations run 50
grep -q 'the site was read' run/run.log || fail 'the site file was not read'
wait_until 90 job_is "$both" COMPLETED || fail "the heterogeneous job is $(job_state "$both")"
expect_iterations "$odd" 50
grep -q 'finished: ' "$odd/run.log" || fail 'the log of the odd run is elsewhere'
scontrol show job "$both" | grep -qF 'Comment=two "odd" words' || fail 'the comment was taken apart'
node_values "$odd" host >hosts.values
grep -q '^node-0*0.json cloud' hosts.values || fail "the data node is not in the cloud: $(cat hosts.values)"
for host in uni1 uni2 cloud1 cloud2; do
    grep -q " $host$" hosts.values || fail "nobody worked on $host: $(cat hosts.values)"
done

# GPUs come from the job: of four that the machine seems to have, each node gets the one that it asked for.
emulated=$(dirname "$gwtf")/libgwtf_cuda_emulated.so
if [ -f "$emulated" ] && [ -n "$gres" ]; then
    GWTF_CUDA_LIBRARY=$emulated GWTF_EMULATED_DEVICES=4 "$gwtf" submit good.cfg --partition cloud --nodes 2 \
        --gpus 1 --time 5 --set run.iterations=5 --set "run.directory=\"$scratch/gpus\"" >gpus.txt ||
        fail 'the job with GPUs is not submitted'
    with_gpus=$(sed -n 's/^job \([0-9]*\) is submitted.*/\1/p' gpus.txt)
    wait_until 90 job_is "$with_gpus" COMPLETED ||
        fail "the job with GPUs is $(job_state "$with_gpus"): $(cat gpus/run.log)"
    expect_iterations gpus 5
    scontrol show job "$with_gpus" | grep -q 'gpu:1' || fail 'the job has no GPUs'
    for node in 0 1 2 3; do
        grep -q 'computes on GPU 0 of 1' "gpus/logs/node-000$node.log" ||
            fail "node $node has not the job's GPU: $(grep GPU "gpus/logs/node-000$node.log")"
    done
fi

# srun cannot launch what is spawned, nor start the training more than once.
# fails_by_srun PATTERN OPTION... PROGRAM...
fails_by_srun() {
    pattern=$1
    shift
    status=0
    timeout 60 srun -Q "$@" >out.txt 2>err.txt </dev/null || status=$?
    [ "$status" -eq 2 ] || fail "srun $*: exit code $status: $(cat err.txt)"
    grep -qE "^gwtf: .*$pattern" err.txt || fail "srun $*: $(cat err.txt)"
}
programs=$(dirname "$gwtf")
fails_by_srun 'srun cannot start gwtf-bootstrap' -n1 --mpi=pmix "$programs/gwtf-bootstrap" good.cfg
fails_by_srun 'srun cannot start gwtf-worker' -n2 --mpi=pmix "$programs/gwtf-worker"
for tasks in 1 2; do
    fails_by_srun "srun has started this, $tasks time" -n$tasks "$gwtf" train good.cfg \
        --set "run.directory=\"$scratch/twice\""
done
[ ! -e twice ] || fail 'a run was made under srun'
# salloc gives nodes without a step, and the doctor agrees.
salloc -Q -N2 -c2 sh -c "'$gwtf' doctor good.cfg --set run.directory=$scratch/salloc" >doctor.txt 2>&1 ||
    fail "the doctor finds errors: $(cat doctor.txt)"
grep -q 'reaches 2 node(s)' doctor.txt || fail "the doctor reaches no nodes: $(cat doctor.txt)"
grep -q 'partition uni, uni\[1-2\], 4 processors' doctor.txt || fail 'the doctor does not see the job'
expect_nothing_left 'the jobs'
