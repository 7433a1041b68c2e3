# What the tests of commands share; sourced, with the command in $gwtf. They run in a scratch
# directory, and end with `finish`.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch" || exit 1
failed=0
checked=0

fail() {
    echo "FAILED: $1"
    sed 's/^/    stdout: /' out
    sed 's/^/    stderr: /' err
    failed=$((failed + 1))
}

run() {
    "$gwtf" "$@" >out 2>err
    code=$?
    checked=$((checked + 1))
}

# bad CODE TEXT ARGUMENT...: ends with CODE, says one line on stderr that holds TEXT, and nothing on
# stdout.
bad() {
    expected=$1 text=$2
    shift 2
    run "$@"
    [ "$code" -eq "$expected" ] || fail "gwtf $*: exit code $code in place of $expected"
    [ "$(wc -l <err)" -eq 1 ] || fail "gwtf $*: not one line on stderr"
    grep -q '^gwtf: .*: ' err || fail "gwtf $*: the line does not start with gwtf:"
    grep -qF -- "$text" err || fail "gwtf $*: the line does not hold '$text'"
    [ ! -s out ] || fail "gwtf $*: something on stdout"
}

# good TEXT ARGUMENT...: ends with 0, says nothing on stderr, and TEXT on stdout.
good() {
    text=$1
    shift
    run "$@"
    [ "$code" -eq 0 ] || fail "gwtf $*: exit code $code"
    [ ! -s err ] || fail "gwtf $*: something on stderr"
    grep -qF -- "$text" out || fail "gwtf $*: no '$text' on stdout"
}

holds() {
    grep -qF -- "$1" out || fail "no '$1' on stdout"
}

# The last output is JSON, for which the Python expression is true.
json() {
    command -v python3 >/dev/null || return 0
    python3 -c "import json,sys; j=json.load(open('out')); sys.exit(not ($1))" ||
        fail "the JSON is not as expected: $1"
}

# finish LEAST: good when nothing failed and at least so many commands ran.
finish() {
    echo "$checked commands, $failed failures"
    [ "$failed" -eq 0 ] && [ "$checked" -ge "$1" ]
}
