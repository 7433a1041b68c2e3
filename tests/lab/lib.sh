# Hosts for the stories in this folder: network namespaces with an address, a hostname and a link of
# their own, joined by a bridge. Sourced in place of tests/mpi/lib.sh, which it sources in its turn.
# Everything lives in namespaces of the story's own (network, mounts, hostname), so that nothing of
# it is seen outside and nothing is left. The story itself runs on host-a, and mpirun reaches the
# others as it would by ssh.
#
# Needs root, iproute2 and util-linux; where that is missing the story ends with 77: skipped.
#
# shellcheck shell=sh
hosts='host-a host-b host-c'

if [ -z "${GWTF_LAB:-}" ]; then
    if [ "$(id -u)" -ne 0 ] || ! command -v ip >/dev/null || ! command -v nsenter >/dev/null ||
        ! unshare --net --mount --uts true 2>/dev/null; then
        echo "$(basename "$0" .sh): skipped: hosts are network namespaces, which need root, iproute2 and util-linux"
        exit 77
    fi
    GWTF_LAB=1 exec unshare --net --mount --uts sh "$0" "$@"
fi

# shellcheck source=tests/mpi/lib.sh
. "$(dirname "$0")/../mpi/lib.sh"

# The interface that host-a sees HOST's link by: up, down, or given a rate.
link_of() {
    echo "link-${1#host-}"
}

make_lab() {
    lab="$scratch/lab"
    mkdir "$lab"
    hostname host-a
    ip link set lo up
    ip link add bridge type bridge
    ip link set bridge up
    ip address add 10.99.0.1/24 dev bridge
    echo '127.0.0.1 localhost' >"$lab/hosts"
    number=0
    for host in $hosts; do
        number=$((number + 1))
        echo "10.99.0.$number $host" >>"$lab/hosts"
        if [ "$number" -gt 1 ]; then
            make_host "$host" "$number"
        fi
    done
    mount --bind "$lab/hosts" /etc/hosts
    write_agent
    export OMPI_MCA_plm_rsh_agent="$lab/agent" PRTE_MCA_plm_ssh_agent="$lab/agent"
}

# A host is what a sleeping process is in.
make_host() {
    unshare --net --uts --mount sleep 100000 &
    host_pid=$!
    wait_until 5 is_apart "$host_pid" || fail "$1 was not made"
    echo "$host_pid" >"$lab/$1.pid"
    ip link add "$(link_of "$1")" type veth peer name eth0 netns "$host_pid"
    ip link set "$(link_of "$1")" master bridge up
    on "$1" hostname "$1"
    on "$1" ip link set lo up
    on "$1" ip address add "10.99.0.$2/24" dev eth0
    on "$1" ip link set eth0 up
}
is_apart() {
    [ "$(readlink "/proc/$1/ns/net")" != "$(readlink /proc/self/ns/net)" ]
}

# on HOST COMMAND...
on() {
    host_pid=$(cat "$lab/$1.pid")
    shift
    nsenter --target "$host_pid" --net --uts "$@"
}

# What mpirun calls as it would call ssh: AGENT [-x] HOST WORD..., the words for the host's shell.
# Like ssh it needs the host's link.
write_agent() {
    cat >"$lab/agent" <<AGENT
#!/bin/sh
while [ "\${1#-}" != "\$1" ]; do shift; done
host_pid=\$(cat "$lab/\$1.pid") || exit 255
[ -n "\$(ip link show up dev "link-\${1#host-}" 2>/dev/null)" ] || exit 255
shift
exec nsenter --target "\$host_pid" --net --uts sh -c "\$*"
AGENT
    chmod +x "$lab/agent"
}

# The processes of the command NAME on HOST.
processes_on() {
    uts=$(readlink "/proc/$(cat "$lab/$1.pid")/ns/uts")
    for pid in $(processes_named "$2"); do
        if [ "$(readlink "/proc/$pid/ns/uts")" = "$uts" ]; then
            echo "$pid"
        fi
    done
}
