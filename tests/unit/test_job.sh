#!/bin/sh
# What gwtf does inside a Slurm job, where that can be shown without a Slurm: how gwtf node-agent
# asks srun for a node, what it leaves behind when it is killed, a notice that comes before anything
# has begun, and what the batch script makes of a site file.
#
# usage: sh test_job.sh GWTF SLURM (the folder of the batch scripts)
set -u

gwtf=$1
slurm=$2
. "$(dirname "$0")/command_lib.sh"

unset SLURM_JOB_ID SLURM_HET_SIZE GWTF_INTERFACES GWTF_MPIRUN GWTF_SITE GWTF_TMPDIR
: >out
: >err

# await COMMAND...: until it is true, half a minute at most.
await() {
    for _ in $(seq 300); do
        ! "$@" || return 0
        sleep 0.1
    done
    fail "waited in vain: $*"
    return 1
}
is_there() {
    [ -e "$1" ]
}
is_gone() {
    [ ! -e "$1" ]
}

printf 'In the beginning God created the heaven and the earth. ' >text
for i in 1 2 3 4 5 6; do cat text text >more && mv more text; done
"$gwtf" tokenize text --output train.h5 >/dev/null || fail 'tokenize'
cat >good.cfg <<'CONFIG'
run = { directory = "runs/one"; iterations = 5; };
model = { layers = 2; width = 16; heads = 2; context = 16; };
data = { train = "train.h5"; };
batch = { microbatch = 1; microbatches = 2; };
pipeline = { stages = 2; };
nodes = ( { role = "data"; }, { role = "relay"; count = 2; } );
CONFIG

# Srun is asked for the node by the name that Slurm has for it, with all of the environment, and
# without what the job was asked for.
mkdir -p bin run/requests tmp
cat >run/allocation.json <<'JOB'
{"job": "17", "components": [{"job": "17", "partition": "uni", "nodes": "uni[1-2].campus",
 "hosts": [{"name": "uni1.campus", "slots": 3}, {"name": "uni2.campus", "slots": 5}]}]}
JOB
cat >bin/srun <<'SRUN'
#!/bin/sh
printf '%s\n' "$@" >srun.words
env >srun.environment
SRUN
chmod +x bin/srun
PATH=$PWD/bin:$PATH GWTF_RUN=$PWD/run SLURM_EXPORT_ENV=NONE SLURM_TRES_PER_TASK=cpu:1 \
    SLURM_NTASKS_PER_SOCKET=1 "$gwtf" node-agent uni2 echo hello >out 2>err ||
    fail 'the agent does not reach uni2'
for word in --nodelist=uni2.campus --jobid=17 --cpus-per-task=5 --export=ALL 'echo hello'; do
    grep -qxF -- "$word" srun.words || fail "srun is not given '$word': $(tr '\n' ' ' <srun.words)"
done
! grep -E '^SLURM_(EXPORT_ENV|TRES_PER_TASK|NTASKS_PER_SOCKET)=' srun.environment >out ||
    fail 'srun hears of the job'
bad 2 "is started by" node-agent uni3 echo hello
export GWTF_RUN="$PWD/run"
bad 2 "node 'uni3' is not in the job" node-agent uni3 echo hello

# An agent that Slurm kills leaves its directory; the next one removes it, but not that of one that
# lives, nor what is not theirs. They are where the user wants such things.
agent_behind() {
    GWTF_TMPDIR=$PWD/tmp TMPDIR=/absent "$gwtf" node-agent --here \
        "echo \$TMPDIR >$1.new; mv $1.new $1; until [ -e over ]; do sleep 0.05; done" &
    agent=$!
    await is_there "$1"
}
mkdir tmp/gwtf-kept00
agent_behind killed
killed=$agent
agent_behind living
case $(cat killed) in
"$PWD"/tmp/gwtf-*) ;;
*) [ ${#PWD} -gt 34 ] || fail "the agent's directory is $(cat killed)" ;;
esac
kill -KILL "$killed"
wait "$killed" 2>/dev/null
is_there "$(cat killed)" || fail 'a killed process has tidied up'
await flock -n "$(cat killed)/owner" true # what it had started has ended
GWTF_TMPDIR=$PWD/tmp "$gwtf" node-agent --here 'echo $TMPDIR >next' || fail 'the next agent'
is_gone "$(cat killed)" || fail 'what a killed agent has left stays'
is_there "$(cat living)" || fail 'the directory of an agent that lives was removed'
is_there tmp/gwtf-kept00 || fail 'somebody else'"'"'s directory was removed'
touch over
wait "$agent"
is_gone "$(cat living)" || fail 'an agent leaves its directory'
is_gone "$(cat next)" || fail 'the next agent leaves its directory'

# Slurm's notice may come while gwtf train still looks at what there is: the job is requeued.
cat >mpirun <<'MPIRUN'
#!/bin/sh
case $1 in
--version)
    touch asked
    until [ -e go ]; do sleep 0.05; done
    echo 'mpirun (Open MPI) 4.1.4'
    ;;
*) exec sleep 60 ;;
esac
MPIRUN
cat >bin/scontrol <<'SCONTROL'
#!/bin/sh
[ "$1" != show ] || echo uni1
[ "$1" != requeue ] || echo "$2" >>requeued
SCONTROL
printf '#!/bin/sh\necho RUNNING\n' >bin/squeue
chmod +x mpirun bin/scontrol bin/squeue
PATH=$PWD/bin:$PATH SLURM_JOB_ID=17 SLURM_JOB_NODELIST=uni1 SLURM_JOB_CPUS_PER_NODE=4 \
    GWTF_MPIRUN=$PWD/mpirun "$gwtf" train good.cfg --requeue >out 2>err &
train=$!
await is_there asked
kill -USR1 "$train"
touch go
wait "$train"
[ $? -eq 1 ] || fail 'gwtf train ends by the notice'
holds 'job 17 is requeued'
[ "$(cat requeued)" = 17 ] || fail 'the job is not requeued'

# The scripts. A site file may end with what is not so, and may be named without its folder; a
# notice that comes while it is read is one as well.
cat >bin/gwtf <<'TRAIN'
#!/bin/sh
echo "$*" >trained
TRAIN
chmod +x bin/gwtf
for script in train train-het; do
    rm -f trained requeued
    echo '[ -z "$HOME" ] && echo homeless' >site.sh
    HOME=/ PATH=$PWD/bin:$PATH SLURM_JOB_ID=17 SLURM_JOB_NODELIST=uni1 GWTF_SITE=site.sh \
        sh "$slurm/$script.sbatch" 'my own.cfg' --quiet >out 2>err || fail "$script: exit code $?"
    [ "$(cat trained)" = 'train my own.cfg --quiet --resume=auto --requeue' ] ||
        fail "$script: gwtf is not called so: $(cat trained)"
    rm trained
    PATH=$PWD/bin:$PATH SLURM_JOB_ID=17 GWTF_SITE=absent.sh \
        sh "$slurm/$script.sbatch" good.cfg >out 2>err
    [ $? -eq 2 ] || fail "$script: a site file that is not there is not told"
    grep -q "cannot read the site file './absent.sh'" err || fail "$script: it is not named"
    echo 'kill -USR1 $$' >site.sh
    PATH=$PWD/bin:$PATH SLURM_JOB_ID=17 GWTF_SITE=./site.sh \
        sh "$slurm/$script.sbatch" good.cfg >out 2>err || fail "$script: dies of the notice"
    [ "$(cat requeued)" = 17 ] || fail "$script: is not requeued"
    is_gone trained || fail "$script: trains after the notice"
done

finish 2
