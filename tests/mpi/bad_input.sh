#!/bin/sh
# Everything that is wrong with what a user gives is told in one line, with exit code 2, before any
# mpirun is started.
. "$(dirname "$0")/lib.sh"

make_data_and_config
cp "$scratch/config.cfg" "$scratch/good.cfg"
[ -z "$(find "$scratch" -name run)" ] || fail 'something has made a run'

# A mpirun that tells on those who start it; what it is may be asked.
real=$(command -v mpirun)
mkdir "$scratch/bin"
cat >"$scratch/bin/mpirun" <<MPIRUN
#!/bin/sh
case \$* in
--version | -V) exec "$real" "\$@" ;;
esac
echo "\$*" >>"$scratch/started"
exit 99
MPIRUN
chmod +x "$scratch/bin/mpirun"
PATH=$scratch/bin:$PATH
cases=0
wrong=0

# refused PATTERN ARGUMENT...: gwtf ARGUMENT... gives one line that matches, and exit code 2.
refused() {
    pattern=$1
    shift
    cases=$((cases + 1))
    status=0
    timeout -k 5 30 "$gwtf" "$@" >"$scratch/out.txt" 2>"$scratch/err.txt" </dev/null || status=$?
    what=
    [ "$status" -eq 2 ] || what="exit code $status"
    [ "$(wc -l <"$scratch/err.txt")" -eq 1 ] || what="$what, $(wc -l <"$scratch/err.txt") lines"
    grep -q '^gwtf: ' "$scratch/err.txt" || what="$what, does not begin with gwtf:"
    grep -qiE "$pattern" "$scratch/err.txt" || what="$what, does not match /$pattern/"
    [ ! -s "$scratch/out.txt" ] || what="$what, speaks on stdout"
    [ ! -e "$scratch/started" ] || what="$what, started mpirun"
    [ ! -e "$scratch/run" ] || what="$what, made the run's directory"
    rm -rf "$scratch/started" "$scratch/run"
    if [ -n "$what" ]; then
        wrong=$((wrong + 1))
        echo "$story: gwtf $*: $what" >&2
        sed 's/^/    /' "$scratch/err.txt" >&2
    fi
}

# with SED-SCRIPT: the good configuration, changed.
with() {
    sed "$1" "$scratch/good.cfg" >"$scratch/config.cfg"
    ! cmp -s "$scratch/good.cfg" "$scratch/config.cfg" || fail "the change '$1' changes nothing"
}
# refused_with PATTERN SED-SCRIPT, distributed and local.
refused_with() {
    with "$2"
    refused "$1" train "$scratch/config.cfg"
    refused "$1" train "$scratch/config.cfg" --local
}

# Keys
refused_with 'config.cfg:1:.*directory' 's/directory/direktory/'
refused_with 'config.cfg:2:.*heads' 's/heads/haeds/'
refused_with 'config.cfg:6:.*stages' 's/stages/stagse/'
refused_with 'config.cfg:.*optimizer' 's/optimizer/optimiser/'
refused_with 'config.cfg:1:.*iterations' 's/ iterations = 50;//'
refused_with 'data' '/^data/,/};/d'
refused_with 'config.cfg:2:' 's/width = 32;/width = 32; width = 64;/'
# Syntax
refused_with 'config.cfg:[12]:' 's/seed = 7;/seed = ;/'
refused_with 'config.cfg:' 's/^pipeline = {/pipeline = {{/'
# Types
refused_with 'config.cfg:2:.*width' 's/width = 32/width = "32"/'
refused_with 'config.cfg:2:.*layers' 's/layers = 3/layers = 3.5/'
refused_with 'config.cfg:8:.*learning_rate' 's/learning_rate = 3e-3/learning_rate = true/'
refused_with 'config.cfg:1:.*directory' 's/directory = "[^"]*"/directory = 5/'
refused_with 'config.cfg:7:.*nodes' 's/^nodes = (.*/nodes = 7;/'
# Ranges
refused_with 'config.cfg:1:.*iterations' 's/iterations = 50/iterations = 0/'
refused_with 'config.cfg:1:.*iterations' 's/iterations = 50/iterations = 3000000000000/'
refused_with 'config.cfg:1:.*seed' 's/seed = 7/seed = -1/'
refused_with 'config.cfg:8:.*learning_rate' 's/learning_rate = 3e-3/learning_rate = -1.0/'
refused_with 'config.cfg:5:.*microbatch' 's/microbatch = 2/microbatch = 0/'
refused_with 'capacity' 's/capacity = 3/capacity = 5000/'
refused_with 'config.cfg:2:.*family' 's/gpt2/gpt3/'
refused_with 'config.cfg:7:.*role' 's/"relay"/"relais"/'
# Impossible shapes
refused_with 'heads' 's/heads = 2/heads = 3/'
refused_with 'stages' 's/stages = 3/stages = 4/'
refused_with 'relay|stage' 's/count = 6/count = 2/'
refused_with 'data' 's/{ role = "data"; }, //'
refused_with 'stage' 's/count = 6;/count = 6; stage = 9;/'
# Against the data
refused_with 'vocabulary' 's/context = 32;/context = 32; vocabulary = 100;/'
refused_with 'context' 's/context = 32;/context = 5000000;/'
# Files
refused_with 'missing.h5' 's/train\.h5/missing.h5/'
refused_with 'missing.h5' 's/validation\.h5/missing.h5/'
echo 'plain text' >"$scratch/foreign.h5"
refused_with 'foreign.h5' 's/train\.h5/foreign.h5/'
head -c 3000 "$scratch/train.h5" >"$scratch/cut.h5"
refused_with 'cut.h5' 's/train\.h5/cut.h5/'
# The emulated network
topology=$(dirname "$0")/../../share/topologies/ten-regions.cfg
refused_with 'emulate.*missing.cfg' "\$ a network = { emulate = \"$scratch/missing.cfg\"; };"
refused_with "unknown region 'Orgeon': did you mean 'Oregon'" \
    "s/count = 6;/count = 6; region = \"Orgeon\";/; \$ a network = { emulate = \"$topology\"; };"
refused_with 'config.cfg:10:.*link_faults.*emulate' '$ a link_faults = ( { region = "Tokyo"; } );'
refused_with 'config.cfg:10:.*stage_loss.*"neighbours"' '$ a faults = { stage_loss = "neigbours"; };'
refused_with 'config.cfg:10:.*crashes.0.node is 70' '$ a crashes = ( { node = 70; } );'

# The command line
cp "$scratch/good.cfg" "$scratch/config.cfg"
refused 'nowhere.cfg' train "$scratch/nowhere.cfg"
refused 'configuration|CONFIG' train
refused 'learning_rat' train "$scratch/config.cfg" --set optimizer.learning_rat=1
refused 'width' train "$scratch/config.cfg" --set model.width=wide
refused 'nodes' train "$scratch/config.cfg" --set nodes.7.count=1
refused 'set' train "$scratch/config.cfg" --set
refused 'frobnicate' train "$scratch/config.cfg" --frobnicate
refused 'tarin.*train|train' tarin "$scratch/config.cfg"
refused 'run' train "$scratch/config.cfg" --resume
refused 'restarts -1.*from 0' train "$scratch/config.cfg" --restarts -1
refused 'restarts 2x.*from 0' train "$scratch/config.cfg" --restarts 2x
refused 'missing' tokenize "$scratch/missing.txt" --output "$scratch/out.h5"
refused 'RUN|run' status
refused 'nowhere' status "$scratch/nowhere"
refused 'nowhere' inspect "$scratch/nowhere"

[ "$wrong" -eq 0 ] || fail "$wrong of $cases cases"

# And the test itself can see a start: the good configuration reaches mpirun.
timeout -k 5 30 "$gwtf" train "$scratch/config.cfg" >"$scratch/good.log" 2>&1 </dev/null || true
[ -e "$scratch/started" ] || fail 'the good configuration does not start mpirun either'
[ "$(wc -l <"$scratch/started")" -eq 1 ] || fail 'a run that never began is started again'
note "$cases cases"
