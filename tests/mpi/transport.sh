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
# It ends by MPI_Abort, since MPI may keep what a lost peer sends.
timeout -k 5 "$seconds_max" "$@" -n 4 "$program" forget >"$scratch/forget.log" 2>&1 </dev/null || true
grep -q '^rank 0: whole$' "$scratch/forget.log" || fail 'a lost peer writes into memory'
rm -rf "${TMPDIR:?}"/* # mpirun's own folder: without the launcher nobody else removes it
expect_nothing_left 'the exchange'
