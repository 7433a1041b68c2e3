#!/bin/sh
# Configures and builds GWTF. Quick when nothing has changed; starts afresh when the folder was
# configured by other means (another compiler, another place of the source).
set -eu

usage() {
    cat <<'USAGE'
usage: sh share/build.sh [--product] [FOLDER [-DOPTION=VALUE...]]

Builds into FOLDER (default: build/release of the source), with CMake's options.
  --product  only what a user starts: the gwtf command and what it starts, without the tests

example: sh share/build.sh build/sanitize -DGWTF_SANITIZE=address,undefined
USAGE
}

fail() {
    echo "build: $1" >&2
    exit "${2:-1}"
}

source=$(cd "$(dirname "$0")/.." && pwd)
targets=all
case ${1-} in
--help | -h)
    usage
    exit 0
    ;;
--product)
    targets='gwtf gwtf-bootstrap gwtf-worker'
    shift
    ;;
esac
case ${1-} in
-*) fail "there is no option '$1': see sh share/build.sh --help" 2 ;;
esac
folder=${1:-$source/build/release}
[ $# -eq 0 ] || shift

for tool in cmake ninja gcc; do
    command -v "$tool" >/dev/null 2>&1 || fail "$tool is not installed: run sh share/install.sh"
done

mkdir -p "$folder"
# Two builds of one folder would write over each other's files.
exec 9>"$folder/.lock"
flock 9

# What the folder was configured from. CMake itself notices changed lists, but not these.
configured_from=$(
    echo "$source"
    gcc --version | head -n 1
    for option; do echo "$option"; done
)
log=$folder/build.log
if [ ! -f "$folder/build.ninja" ] || [ "$configured_from" != "$(cat "$folder/.from" 2>/dev/null)" ]; then
    rm -f "$folder/.from"
    cmake --fresh -G Ninja -S "$source" -B "$folder" "$@" >"$log" 2>&1 9>&- || {
        cat "$log" >&2
        fail "cmake could not configure $folder: see the lines above"
    }
    echo "$configured_from" >"$folder/.from"
fi

# shellcheck disable=SC2086 # a list of names
if [ -t 1 ]; then
    cmake --build "$folder" --target $targets 9>&- || fail "$folder: see the lines above"
else
    cmake --build "$folder" --target $targets >"$log" 2>&1 9>&- || {
        cat "$log" >&2
        fail "$folder: see the lines above"
    }
fi
