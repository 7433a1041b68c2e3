#!/bin/sh
# gwtf doctor as a user has it, and gwtf node-agent, which stands between Slurm and Open MPI's daemon
# on a node.
#
# usage: sh test_doctor.sh GWTF
set -u

gwtf=$1
. "$(dirname "$0")/command_lib.sh"

# verdict CHECK: of the last output.
is() {
    grep -qE "^$1 +$2 " out || fail "no '$1' for '$2'"
}
# would_not_start CHECK TEXT ARGUMENT...: exit code 1, and CHECK is an error that says TEXT.
would_not_start() {
    check=$1 text=$2
    shift 2
    run doctor "$@"
    [ "$code" -eq 1 ] || fail "doctor $*: exit code $code"
    is error "$check"
    holds "$text"
    holds 'a run would not start: '
}

unset SLURM_JOB_ID SLURM_HET_SIZE GWTF_INTERFACES GWTF_MPIRUN
good 'usage: gwtf doctor' doctor --help
bad 2 "did you mean '--json'" doctor --jsn
bad 2 'one argument too many' doctor a b

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

good 'a run would start: 0 error(s)' doctor
for check in disk hdf5 mpi losses programs slurm job temporary mpirun processors memory compute \
    gpus network ports; do
    grep -qE "^(ok|warning) +$check " out || fail "no finding of $check"
done
good 'runs/one: 2 stages, 1 data node(s), 2 relays' doctor good.cfg
[ ! -e runs ] || fail 'doctor has made the directory'
[ -z "$(find . -name '.gwtf-probe*')" ] || fail 'doctor leaves files behind'
good '"would_start": true' doctor good.cfg --json
json 'all(c["verdict"] in ("ok", "warning") for c in j["checks"])'
json '{c["check"] for c in j["checks"]} >= {"run", "mpi", "mpirun", "hdf5", "memory", "network"}'

# What is wrong, and what to do.
would_not_start run 'absent.h5' good.cfg --set data.train=absent.h5
would_not_start run "unknown key 'model.lyaers'" good.cfg --set model.lyaers=3
would_not_start memory 'take more nodes or more stages' good.cfg --set model.width=16384 \
    --set model.layers=96
GWTF_MPIRUN=/bin/false would_not_start mpi 'is not Open MPI' good.cfg
TMPDIR=$PWD/absent would_not_start temporary 'set TMPDIR to one that works' 2>err
# A mpirun that says what it is, and starts nothing.
cat >mpirun <<'MPIRUN'
#!/bin/sh
[ "$1" != --version ] || { echo 'mpirun (Open MPI) 4.1.4'; exit 0; }
echo 'no daemon answers'
exit 9
MPIRUN
chmod +x mpirun
GWTF_MPIRUN=$PWD/mpirun would_not_start mpirun 'no daemon answers'
run doctor --json
GWTF_MPIRUN=$PWD/mpirun run doctor --json
[ "$code" -eq 1 ] || fail "doctor --json: exit code $code"
json 'j["would_start"] is False and [c["check"] for c in j["checks"] if c["verdict"] == "error"] == ["mpirun"]'
json 'all("advice" in c for c in j["checks"] if c["verdict"] == "error")'

# In a job, with a scontrol that knows its nodes.
mkdir bin
cat >bin/scontrol <<'SCONTROL'
#!/bin/sh
[ "$*" = 'show hostnames uni[1-2]' ] || exit 1
printf 'uni1\nuni2\n'
SCONTROL
printf '#!/bin/sh\nexit 0\n' >bin/srun
chmod +x bin/scontrol bin/srun
in_job() {
    PATH=$PWD/bin:$PATH SLURM_JOB_ID=17 SLURM_JOB_NODELIST='uni[1-2]' SLURM_JOB_PARTITION=uni \
        SLURM_JOB_CPUS_PER_NODE="$1" GWTF_MPIRUN=$PWD/mpirun run doctor good.cfg
}
in_job '2(x2)'
is ok job
holds '17: partition uni, uni[1-2], 4 processors'
in_job '1(x2)'
is error job
holds '2 stages and the data node need 3 processors, and job 17 offers 2'
in_job '16,1'
holds '17: partition uni, uni[1-2], 17 processors'

# The agent hears that Slurm wants the node back, asks the run to stop, and keeps what it stands for
# alive.
bad 2 'is started by `gwtf train`' node-agent
mkdir -p run/requests tmp
GWTF_RUN=$PWD/run TMPDIR=$PWD/tmp "$gwtf" node-agent --here \
    "trap 'echo told >told' TERM; echo \$TMPDIR >tmpdir; until [ -e over ]; do sleep 0.05; done; exit 3" &
agent=$!
until [ -s tmpdir ]; do sleep 0.05; done
kill -TERM "$agent"
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    [ ! -e run/requests/stop ] || break
    sleep 0.1
done
[ -e run/requests/stop ] && [ -e run/requests/notice ] || fail 'the agent has not asked to stop'
kill -0 "$agent" || fail 'the agent has ended'
touch over
wait "$agent"
[ $? -eq 3 ] || fail 'the agent does not pass on how it ended'
[ ! -e told ] || fail 'what the agent stands for was told to end'
[ ! -e "$(cat tmpdir)" ] || fail 'the agent leaves its temporary directory behind'

finish 18
