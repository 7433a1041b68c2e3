#!/bin/sh
# Four ranks send each other messages and tensors through the worker's transport, over the very
# mpirun command that training would use.
. "$(dirname "$0")/lib.sh"

make_data_and_config
command=$("$gwtf" train "$scratch/config.cfg" --dry-run)
case $command in
*' -n 1 '*) ;;
*) fail "the command of mpirun has changed: $command" ;;
esac
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export PRTE_ALLOW_RUN_AS_ROOT=1 PRTE_ALLOW_RUN_AS_ROOT_CONFIRM=1
program=$(dirname "$gwtf")/test_transport
[ -x "$program" ] || fail "$program is not built" # mpirun would wait for it
eval "set -- ${command%% -n 1 *}" # as a person would paste it: it is quoted for a shell
for network in real emulate; do
    timeout -k 5 "$seconds_max" "$@" -n 4 "$program" $network \
        >"$scratch/transport.log" 2>&1 </dev/null || fail "it ended with exit code $? ($network)"
    [ "$(grep -c ': whole$' "$scratch/transport.log")" -eq 4 ] || fail "not all came ($network)"
done
# says_whole RANKS MODE MPIRUN...: rank 0 does. What MPI keeps of lost peers holds up its end: it is ended.
says_whole() {
    ranks=$1
    mode=$2
    shift 2
    "$@" -n "$ranks" "$program" "$mode" >"$scratch/$mode.log" 2>&1 </dev/null &
    started=$!
    wait_until 60 grep -q "^rank 0: " "$scratch/$mode.log" || true
    kill "$started" 2>/dev/null || true # it may have ended
    wait "$started" || true
    grep -q '^rank 0: whole$' "$scratch/$mode.log"
}
says_whole 4 forget "$@" || fail 'a lost peer writes into memory'
says_whole 2 died "$@" || fail 'MPI does not come back from calls after the death of a peer'
timeout -k 5 "$seconds_max" "$@" -n 4 "$program" reopen >"$scratch/reopen.log" 2>&1 </dev/null || true
[ "$(grep -c ': whole$' "$scratch/reopen.log")" -eq 4 ] || fail 'a new channel is not as the first'
rm -rf "${TMPDIR:?}"/* # mpirun's own folder: without the launcher nobody else removes it
expect_nothing_left 'the exchange'
