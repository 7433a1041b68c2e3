#!/bin/sh
# Builds and tests a source tree inside a Debian 13 folder on a Debian 12 machine: the second
# platform, with Open MPI 5. Called by tests/run.sh.
#
# usage: sh tests/debian13.sh SOURCE FOLDER RESULTS INSTALL [CTEST OPTION...]
#
# FOLDER is made once (two minutes) and used again; SOURCE is copied into it, and CTest's JUnit file
# comes out as RESULTS. INSTALL: yes, or no for "fetch nothing". Exits 3 when this machine cannot do
# it, after a line that says why; 0 when the tests ran, whatever they found; else 1.
#
# Everything that mounts runs in a mount and process namespace of its own, so that nothing stays
# mounted and nobody stays running, however this ends.
set -eu

source=$1
folder=$2
results=$3
install=$4
shift 4
codename=trixie

skip() {
    echo "debian13: left out: $1"
    exit 3
}
fail() {
    echo "debian13: $1" >&2
    exit 1
}
# What only a network can give. Continuous integration must not pass for want of one.
unreachable() {
    [ -z "${CI-}" ] || fail "$1"
    skip "$1"
}

here=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
[ "$here" = bookworm ] || skip 'this machine is not Debian 12'
[ "$(id -u)" -eq 0 ] || skip 'it needs root'
enclosed() {
    unshare --mount --pid --fork --kill-child --mount-proc "$@"
}
enclosed true 2>/dev/null || skip 'mounting is not allowed here'

# Where this machine gets its own packages: the first source of its own release.
mirror() {
    cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
        sed 's/\[[^]]*\]//' |
        awk -v suite="$here" '$1 == "deb" && $3 == suite { print $2; exit }'
    awk -v suite="$here" '
        function flush() { if (uri != "" && found) { print uri; uri = "" } }
        FNR == 1 || /^[[:space:]]*$/ { flush(); uri = ""; found = 0 }
        tolower($1) == "uris:" { uri = $2 }
        tolower($1) == "suites:" { for (i = 2; i <= NF; i++) if ($i == suite) found = 1 }
        END { flush() }' /etc/apt/sources.list.d/*.sources /dev/null 2>/dev/null
}

# A half-made folder of an earlier try has no name of its own and goes.
if [ ! -d "$folder" ]; then
    [ "$install" = yes ] || skip "there is no $folder, and nothing may be fetched"
    sh "$source/share/install.sh" platform || unreachable 'debootstrap is missing'
    site=$(mirror | head -n 1)
    [ -n "$site" ] || unreachable "no mirror of Debian is named in /etc/apt"
    echo "debian13: making $folder, once"
    rm -rf --one-file-system "$folder.partial"
    enclosed debootstrap --variant=minbase "$codename" "$folder.partial" "$site" \
        >"$folder.log" 2>&1 || {
        tail -n 5 "$folder.log" >&2
        unreachable "debootstrap could not fetch Debian 13 (see $folder.log): check the network"
    }
    # A test folder need not survive a power cut, and the disk's barriers are half of the time.
    echo force-unsafe-io >"$folder.partial/etc/dpkg/dpkg.cfg.d/unsafe-io"
    apt-config dump Acquire | grep -i proxy >"$folder.partial/etc/apt/apt.conf.d/90proxy" || true
    mv "$folder.partial" "$folder"
fi

# The tree as it is, without what was built. Files keep their times, so that only what changed is
# built again.
mkdir -p "$folder/gwtf"
find "$folder/gwtf" -mindepth 1 -maxdepth 1 ! -name build -exec rm -rf --one-file-system {} +
tar -C "$source" --exclude=./build --exclude=./runs --exclude=./.git -cf - . |
    tar -C "$folder/gwtf" --no-same-owner -xf -
cp -L /etc/resolv.conf /etc/hosts "$folder/etc/" 2>/dev/null || true

# A world of its own: /proc of the new process namespace, empty /tmp and /dev/shm.
# shellcheck disable=SC2016 # expanded inside
inside='
    folder=$1; shift
    mount --bind "$folder" "$folder" # what is a mount can be the root of further namespaces
    mount -t proc proc "$folder/proc"
    mount --rbind /sys "$folder/sys"
    mount --rbind /dev "$folder/dev"
    mount -t tmpfs tmpfs "$folder/dev/shm"
    mount -t tmpfs tmpfs "$folder/tmp"
    exec chroot "$folder" "$@"'
in_folder() {
    enclosed sh -euc "$inside" sh "$folder" "$@"
}

if [ "$install" = yes ]; then
    in_folder sh /gwtf/share/install.sh build run text test ||
        unreachable 'its packages could not be installed: see the lines above'
fi
in_folder sh /gwtf/share/build.sh /gwtf/build/release || fail 'does not build: see the lines above'
rm -f "$results" "$folder/gwtf/build/results.xml"
# shellcheck disable=SC2016 # expanded inside
in_folder env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 ${CI:+CI="$CI"} \
    sh -c 'cd /gwtf/build/release && exec ctest --output-junit /gwtf/build/results.xml "$@"' \
    sh "$@" || true
cp "$folder/gwtf/build/results.xml" "$results"
