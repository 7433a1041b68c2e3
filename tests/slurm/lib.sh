# What the stories in this folder share, besides what those in tests/mpi do: a Slurm of their own.
#
# `start_slurm` starts munged, slurmctld and a slurmd for each of the nodes uni1, uni2 and cloud1,
# cloud2, which have two GPUs each, as far as Slurm knows, with configuration, keys, state, logs and sockets in the story's scratch folder. All of
# them end with the story. Partitions: uni, cloud, spare, which has the nodes of uni and whose jobs
# are cancelled when others want them, and urgent, which sinfo does not list, and which takes the nodes
# from jobs of both. Where Slurm is not installed or may not be started, the story ends with 77,
# which CTest counts as skipped.
#
# shellcheck shell=sh
. "$(dirname "$0")/../mpi/lib.sh"

source=$(cd "$(dirname "$0")/../.." && pwd)
slurm=$scratch/slurm

skip() {
    echo "$story: SKIPPED: $*"
    exit 77
}

# A port from which on COUNT are free to listen on, as far as can be seen.
free_ports() {
    base=$((20000 + ($$ * 37) % 30000))
    while ss -Htan 2>/dev/null | awk -v from="$base" -v to="$((base + $1))" '
        { port = $4; sub(/.*:/, "", port); if (port + 0 >= from && port + 0 < to) found = 1 }
        END { exit !found }'; do
        base=$((base + $1))
    done
    echo "$base"
}

write_slurm_conf() {
    base=$(free_ports 10)
    # Slurm counts GPUs by their devices; nothing opens these. Not everybody may make some.
    gres=
    if mknod "$slurm/gpu0" c 1 3 2>/dev/null && mknod "$slurm/gpu1" c 1 3 2>/dev/null; then
        gres=Gres=gpu:2
    fi
    host=$(hostname -s)
    cat >"$slurm/slurm.conf" <<CONF
ClusterName=gwtf
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$base
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$slurm/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation=$slurm/state
SlurmdSpoolDir=$slurm/spool-%n
SlurmctldPidFile=$slurm/slurmctld.pid
SlurmdPidFile=$slurm/slurmd-%n.pid
SlurmctldLogFile=$slurm/slurmctld.log
SlurmdLogFile=$slurm/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_min_interval=200000,batch_sched_delay=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
MpiDefault=none
ReturnToService=2
SlurmdTimeout=10
KillWait=5
MinJobAge=300
GresTypes=gpu
NodeName=uni[1-2] NodeHostname=$host NodeAddr=127.0.0.1 Port=[$((base + 1))-$((base + 2))] CPUs=2 RealMemory=2000
NodeName=cloud[1-2] NodeHostname=$host NodeAddr=127.0.0.1 Port=[$((base + 3))-$((base + 4))] CPUs=2 RealMemory=2000 $gres
PartitionName=uni Nodes=uni[1-2] Default=YES MaxTime=INFINITE PriorityTier=1 GraceTime=20
PartitionName=cloud Nodes=cloud[1-2] MaxTime=INFINITE PriorityTier=1
PartitionName=spare Nodes=uni[1-2] MaxTime=INFINITE PriorityTier=1 GraceTime=20 PreemptMode=CANCEL
PartitionName=short Nodes=uni[1-2] MaxTime=1:30 PriorityTier=1
PartitionName=urgent Nodes=uni[1-2] MaxTime=INFINITE PriorityTier=10 PreemptMode=OFF Hidden=YES
CONF
    [ -z "$gres" ] || echo "NodeName=cloud[1-2] Name=gpu File=$slurm/gpu[0-1]" >"$slurm/gres.conf"
}

start_munge() {
    dd if=/dev/urandom of="$slurm/munge.key" bs=128 count=1 2>/dev/null
    chmod 600 "$slurm/munge.key"
    munged --force --key-file="$slurm/munge.key" --socket="$slurm/munge.socket" \
        --pid-file="$slurm/munged.pid" --log-file="$slurm/munged.log" \
        --seed-file="$slurm/munged.seed" >"$scratch/munged.log" 2>&1 ||
        fail "munged does not start: $(cat "$scratch/munged.log")"
}

nodes_idle() {
    [ "$(sinfo -h -N -o '%N %T' 2>/dev/null | sort -u | grep -c ' idle$')" -eq 4 ]
}

# as_host NAME COMMAND...: where $hosts_have_names, what runs sees itself on a machine of that name, as on a
# cluster; else all nodes have the name of this one.
hosts_have_names=
as_host() {
    name=$1
    shift
    if [ -n "$hosts_have_names" ]; then
        unshare --uts sh -c 'hostname "$1" && shift && exec "$@"' sh "$name" "$@"
    else
        "$@"
    fi
}

start_slurm() {
    for program in munged slurmctld slurmd sbatch srun scontrol; do
        command -v "$program" >/dev/null 2>&1 ||
            skip "$program is not installed: sh share/install.sh slurm"
    done
    [ "$(id -u)" -eq 0 ] || skip 'Slurm can be started by root only'
    mkdir -p "$slurm/state"
    ln -s slurm/slurmctld.log "$scratch/controller.log"
    chmod 755 "$scratch" "$slurm"
    write_slurm_conf
    export SLURM_CONF="$slurm/slurm.conf"
    start_munge
    slurmctld >"$scratch/slurmctld.log" 2>&1 || fail 'slurmctld does not start'
    for node in uni1 uni2 cloud1 cloud2; do
        as_host "$node" slurmd -N "$node" >>"$scratch/slurmd.log" 2>&1 ||
            fail "slurmd of $node does not start"
    done
    wait_until 20 nodes_idle || fail "the nodes do not come up: $(sinfo -N -l 2>&1)"
}

# job_state JOB: as "RUNNING"; COMPLETED and so on once it has ended.
job_state() {
    scontrol -o show job "$1" 2>/dev/null | sed -n 's/.*JobState=\([A-Z_]*\).*/\1/p' | head -n 1
}
job_is() {
    [ "$(job_state "$1")" = "$2" ]
}
job_has_ended() {
    case $(job_state "$1") in
    COMPLETED | FAILED | CANCELLED | TIMEOUT | PREEMPTED | NODE_FAIL) return 0 ;;
    *) return 1 ;;
    esac
}
restarted() {
    [ "$(scontrol -o show job "$1" | sed -n 's/.*Restarts=\([0-9]*\).*/\1/p' | head -n 1)" -ge 1 ]
}

# submit NAME PARTITION [OPTION of sbatch]... [-- OPTION of gwtf train...]: train.sbatch trains into
# $scratch/NAME; the job's number in $job, its output in NAME.log.
submit() {
    name=$1
    partition=$2
    shift 2
    options=
    while [ $# -gt 0 ] && [ "$1" != -- ]; do
        options="$options $1"
        shift
    done
    [ $# -eq 0 ] || shift
    # shellcheck disable=SC2086 # words without blanks
    job=$(GWTF=$gwtf sbatch --parsable -p "$partition" --cpus-per-task=2 --time=10 \
        --output="$scratch/$name.log" $options "$source/slurm/train.sbatch" \
        "$scratch/config.cfg" --set "run.directory=\"$scratch/$name\"" "$@") ||
        fail "sbatch does not take $name"
}
