#!/bin/sh
# Installs the Debian packages that GWTF needs, and only those that are missing: Debian 12 and 13.
set -eu

usage() {
    cat <<'USAGE'
usage: sh share/install.sh [--list] [SET...]

Installs what is missing of each SET (default: build run):
  build     to compile GWTF and its tests
  run       to start training
  text      a real text to train on: the King James Bible
  test      to run all tests here
  slurm     to run those that start a Slurm
  platform  to make the Debian 13 folder in which tests/run.sh tests once more

  --list    print the packages of the sets that are missing, and install nothing

Needs root or sudo when something is missing, and does nothing otherwise.

example: sh share/install.sh build test
USAGE
}

# One line a set. "a|b": the first that is installed will do, else the first that this Debian has.
packages_of() {
    case $1 in
    build)
        echo 'gcc g++ libc6-dev make cmake ninja-build pkgconf|pkg-config libopenmpi-dev libhdf5-dev' \
            'libconfig-dev libdnnl-dev libjansson-dev libxxhash-dev libssl-dev libncurses-dev libcunit1-dev' \
            'libpcre2-dev libsentencepiece-dev'
        ;;
    run) echo 'openmpi-bin' ;;
    text) echo 'bible-kjv' ;;
    test) echo 'openmpi-bin hdf5-tools procps spin iproute2 util-linux' ;;
    slurm) echo 'slurm-wlm munge iproute2' ;;
    platform) echo 'debootstrap util-linux' ;;
    *) fail "there is no set '$1': see sh share/install.sh --help" 2 ;;
    esac
}

fail() {
    echo "install: $1" >&2
    exit "${2:-1}"
}

installed() {
    case $(dpkg-query -W -f '${db:Status-Status} ' "$1" 2>/dev/null) in
    *not-installed*) return 1 ;;
    *installed*) return 0 ;;
    *) return 1 ;;
    esac
}

# Of "a|b" the one to install, or nothing when one of them is there.
missing_of() {
    for name in $(echo "$1" | tr '|' ' '); do
        if installed "$name"; then
            return 0
        fi
    done
    for name in $(echo "$1" | tr '|' ' '); do
        if [ "$name" = "$1" ] || apt-cache show "$name" >/dev/null 2>&1; then
            echo "$name"
            return 0
        fi
    done
    echo "${1%%|*}"
}

list_only=no
sets=
for argument; do
    case $argument in
    --help | -h)
        usage
        exit 0
        ;;
    --list) list_only=yes ;;
    -*) fail "there is no option '$argument': see sh share/install.sh --help" 2 ;;
    *) sets="$sets $argument" ;;
    esac
done

command -v dpkg-query >/dev/null 2>&1 ||
    fail "this is not Debian: install an MPI with its headers, HDF5, libconfig, oneDNN, jansson, \
xxHash, OpenSSL, PCRE2, SentencePiece, CUnit, CMake and Ninja by your system's own means, then run sh share/build.sh"

wanted=
for set in ${sets:-build run}; do
    packages=$(packages_of "$set") || exit 2
    wanted="$wanted $packages"
done
missing=
for package in $wanted; do
    name=$(missing_of "$package")
    case " $missing " in
    *" $name "*) ;;
    *) missing="$missing${name:+ $name}" ;;
    esac
done
missing=${missing# }

if [ "$list_only" = yes ]; then
    echo "$missing"
    exit 0
fi
if [ -z "$missing" ]; then
    exit 0
fi

if [ "$(id -u)" -eq 0 ]; then
    as_root=
elif command -v sudo >/dev/null 2>&1; then
    as_root=sudo
else
    fail "missing here: $missing: install them as root (apt-get install $missing), or install sudo"
fi

echo "installing $missing"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

apt() {
    # A terminal would let packages ask questions, and apt draw bars over each other's lines.
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -y -q -o Dpkg::Use-Pty=0 \
        -o DPkg::Lock::Timeout=120 -o Acquire::Retries=3 "$@" </dev/null >>"$log" 2>&1
}
if [ -n "$as_root" ]; then
    sudo -v || fail "sudo does not let you: install as root: apt-get install $missing"
fi
# A list that cannot be fetched may belong to a repository that is of no use here, so what counts is
# whether the packages come.
apt update || true
# shellcheck disable=SC2086 # a list of names
apt install --no-install-recommends $missing || {
    grep '^[EW]:' "$log" | tail -n 8 >&2
    if grep -q -e 'Temporary failure' -e 'Could not resolve' -e 'Could not connect' \
        -e 'Failed to fetch' -e 'Unable to connect' "$log"; then
        fail "Debian's packages cannot be fetched: check the network, then run this again"
    fi
    fail "apt-get could not install $missing: see the lines above"
}
