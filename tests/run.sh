#!/bin/sh
# Installs what is missing, builds, runs all tests, and ends with the line 'N passed, N failed'.
set -eu

usage() {
    cat <<'USAGE'
usage: sh tests/run.sh [--quick] [--label LABEL] [--part PART]... [--no-install]

  --quick        the release build on this machine, without tests labelled slow
  --label LABEL  only tests with this label: unit, simulation, threads, mpi, slurm, oracle,
                 gpu, slow
  --part PART    only this part; may be repeated:
                   release   all tests
                   sanitize  unit and simulation tests under AddressSanitizer and UBSan
                   threads   tests of queues and threads under ThreadSanitizer
                   debian13  tests in a Debian 13 folder, with Open MPI 5: all but those labelled once
  --no-install   do not look for missing packages

Exits 0 when at least one test ran and none failed.

example: sh tests/run.sh --quick --label mpi
USAGE
}

fail() {
    echo "run: $1" >&2
    exit "${2:-1}"
}

source=$(cd "$(dirname "$0")/.." && pwd)
build=$source/build
results=$build/results
debian13=$build/debian13
cores=$(nproc)
quick=no
label=
parts=
install=yes
while [ $# -gt 0 ]; do
    case $1 in
    --help | -h)
        usage
        exit 0
        ;;
    --quick) quick=yes ;;
    --no-install) install=no ;;
    --label | --part)
        [ $# -ge 2 ] || fail "$1 needs a word after it: see sh tests/run.sh --help" 2
        if [ "$1" = --label ]; then
            label=$2
        else
            parts="$parts $2"
        fi
        shift
        ;;
    *) fail "there is no option '$1': see sh tests/run.sh --help" 2 ;;
    esac
    shift
done
for part in $parts; do
    case $part in
    release | sanitize | threads | debian13) ;;
    *) fail "there is no part '$part': see sh tests/run.sh --help" 2 ;;
    esac
done
if [ -z "$parts" ]; then
    parts='release'
    [ "$quick" = yes ] || parts='release sanitize threads debian13'
fi

mkdir -p "$results"
exec 8>"$build/.tests.lock"
flock -n 8 || {
    echo 'another tests/run.sh works here: waiting for it'
    flock 8
}

passed=0
failed=0
complaints=
started=$(date +%s)

complain() {
    failed=$((failed + 1))
    complaints="$complaints
  $1"
    echo "run: $1" >&2
}

# The number in ATTRIBUTE of the first line that has it: CTest's JUnit file has the totals on top.
total_of() {
    sed -n "s/.*[[:space:]]$2=\"\([0-9][0-9]*\)\".*/\1/p" "$1" | head -n 1
}

# The tests that ended with STATUS, in one line.
names_of() {
    sed -n "s/.*<testcase name=\"\([^\"]*\)\".*status=\"\($2\)\".*/\1/p" "$1" | tr '\n' ' '
}

# Adds a JUnit file's numbers to the totals.
count() {
    part=$1
    file=$2
    if [ ! -s "$file" ] || [ -z "$(total_of "$file" tests)" ]; then
        complain "$part: the tests left no results"
        return
    fi
    all=$(total_of "$file" tests)
    if [ "$all" -eq 0 ] && [ -z "$label" ]; then
        complain "$part: no test ran"
    fi
    bad=$(total_of "$file" failures)
    left_out=$(($(total_of "$file" skipped) + $(total_of "$file" disabled)))
    passed=$((passed + all - bad - left_out))
    failed=$((failed + bad))
    if [ "$bad" -gt 0 ]; then
        complaints="$complaints
  $part: $(names_of "$file" fail)"
    fi
    if [ "$left_out" -gt 0 ]; then
        echo "$part: $left_out left out: $(names_of "$file" 'notrun\|disabled')"
    fi
}

# Sanitizers want their shadow memory's addresses free, which randomised ones may not be.
fixed_addresses=
if setarch "$(uname -m)" -R true 2>/dev/null; then
    fixed_addresses="setarch $(uname -m) -R"
fi

# ctest_options LABELS LEFT_OUT: what CTest is asked for, one word a line. Both are parts of regular
# expressions; an empty LABELS is all, an empty LEFT_OUT nothing.
ctest_options() {
    labels=$1
    left_out=$2
    [ "$quick" = no ] || left_out=slow${left_out:+"|$left_out"}
    printf '%s\n' --output-on-failure --no-tests=ignore --no-label-summary -j "$cores"
    [ -z "$labels" ] || printf '%s\n' -L "^($labels)\$"
    [ -z "$label" ] || printf '%s\n' -L "^($label)\$"
    [ -z "$left_out" ] || printf '%s\n' -LE "^($left_out)\$"
}

# run_ctest PART FOLDER LABELS [COMMAND...]: COMMAND starts CTest.
run_ctest() {
    part=$1
    folder=$2
    options=$(ctest_options "$3" '')
    shift 3
    rm -f "$results/$part.xml"
    # shellcheck disable=SC2086 # words without blanks
    (cd "$folder" && exec "$@" ctest --output-junit "$results/$part.xml" $options) 8>&- || true
    count "$part" "$results/$part.xml"
}

headline() {
    echo
    echo "== $1 ($(($(date +%s) - started)) s)"
}

part_release() {
    headline 'release: all tests'
    if sh "$source/share/build.sh" "$build/release" 8>&-; then
        run_ctest release "$build/release" ''
    else
        complain 'release: does not build'
    fi
}

part_sanitize() {
    headline 'sanitize: unit and simulation tests under AddressSanitizer and UBSan'
    if sh "$source/share/build.sh" "$build/sanitize" -DGWTF_SANITIZE=address,undefined 8>&-; then
        # shellcheck disable=SC2086 # words, or none
        ASAN_OPTIONS=abort_on_error=0:detect_leaks=1 UBSAN_OPTIONS=print_stacktrace=1 \
            run_ctest sanitize "$build/sanitize" 'unit|simulation' $fixed_addresses
    else
        complain 'sanitize: does not build'
    fi
}

part_threads() {
    headline 'threads: queues and threads under ThreadSanitizer'
    if sh "$source/share/build.sh" "$build/tsan" -DGWTF_SANITIZE=thread 8>&-; then
        # shellcheck disable=SC2086 # words, or none
        run_ctest threads "$build/tsan" threads $fixed_addresses
    else
        complain 'threads: does not build'
    fi
}

part_debian13() {
    headline 'debian13: what may differ on Debian 13 with Open MPI 5'
    status=0
    # shellcheck disable=SC2046 # words without blanks
    sh "$source/tests/debian13.sh" "$source" "$debian13" "$results/debian13.xml" "$install" \
        $(ctest_options '' once) 8>&- || status=$?
    case $status in
    0) count debian13 "$results/debian13.xml" ;;
    3) ;; # it said why this machine cannot
    *) complain "debian13: could not be set up" ;;
    esac
}

if [ "$install" = yes ]; then
    sh "$source/share/install.sh" build run text test slurm || complain 'packages are missing'
fi
for part in $parts; do
    "part_$part"
done

headline 'all parts are done'
if [ $((passed + failed)) -eq 0 ]; then
    complain 'no test ran'
fi
[ -z "$complaints" ] || echo "failed:$complaints"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
