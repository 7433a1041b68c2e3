#!/bin/sh
# Holds the includes of every source file against the order in which folders may depend on each
# other, and the pure folders against what they may call. Then plants violations in a copy, to see
# that each kind is found.
#
# usage: sh tests/dependencies.sh [SOURCE]
set -eu

source=${1:-$(cd "$(dirname "$0")/.." && pwd)}

# Prints one line for each violation in the tree TREE. Depends on: find, sort, awk.
violations() (
    cd "$1"
    find share flow model io worker launcher \( -name '*.[ch]' -o -name '*.cc' -o -name '*.cu' -o -name '*.cuh' \) 2>/dev/null | sort |
        while IFS= read -r file; do
            awk -v file="$file" '
function complain(what) { printf "%s:%d: %s\n", file, FNR, what }

# The folder of our own that a path lies in.
function module_of(path) {
    if (path ~ /^share\/base\//) return "base"
    if (path ~ /^worker\/[a-z]+\//) { split(path, part, "/"); return part[2] }
    if (path ~ /^(flow|model|io|launcher|tests)\//) { split(path, part, "/"); return part[1] }
    return ""
}

BEGIN {
    # What each folder may include, besides itself.
    allowed["base"] = " "
    allowed["flow"] = " base "
    allowed["model"] = " base "
    allowed["io"] = " base flow "
    allowed["protocol"] = " base flow "
    allowed["simulation"] = " base flow io protocol "
    allowed["runtime"] = " base flow model io protocol "
    allowed["launcher"] = " base flow model io protocol simulation runtime "

    # Where a library may be seen: a pattern of its headers, and one of the files.
    places["^mpi\\.h$"] = "^(worker/runtime/|launcher/bootstrap)"
    places["^mpi-ext\\.h$"] = "^worker/runtime/"
    places["^hdf5(_hl)?\\.h$"] = "^io/"
    places["^(libconfig|jansson)\\.h$"] = "^io/"
    places["^pcre2\\.h$"] = "^io/tokenizer/split\\.c$"
    places["^sentencepiece"] = "^io/tokenizer/sentencepiece\\.cc$"
    places["^(oneapi/|dnnl)"] = "^model/onednn"
    places["^n?curses\\.h$"] = "^launcher/top\\.c"
    places["^(cuda|cublas|nvrtc)"] = "^model/cuda"
    places["^xxhash\\.h$"] = "^share/base/"

    # The pure folders: no clock, thread, file or log, so only headers that have none.
    pure_headers = " assert.h float.h inttypes.h limits.h math.h stdalign.h stdbool.h stddef.h " \
        "stdint.h stdlib.h string.h "
    module = module_of(file)
    pure = module == "flow" || module == "protocol"
    if (module == "") complain("lies in no known folder")
}

/^[ \t]*#[ \t]*include[ \t]*"/ {
    split($0, quoted, "\"")
    other = module_of(quoted[2])
    if (other == "")
        complain("\"" quoted[2] "\" does not name its folder from the top")
    else if (other != module && index(allowed[module], " " other " ") == 0)
        complain(module " may not include " other " (\"" quoted[2] "\")")
}

/^[ \t]*#[ \t]*include[ \t]*</ {
    split($0, rest, "<")
    split(rest[2], name, ">")
    for (pattern in places)
        if (name[1] ~ pattern && file !~ places[pattern])
            complain("<" name[1] "> belongs to " places[pattern])
    if (pure && index(pure_headers, " " name[1] " ") == 0)
        complain("<" name[1] "> in a pure folder")
}

# Memory: only functions that create or initialise may ask for it. A definition starts in the first
# column, as clang-format leaves it.
/^[a-z].*[a-z0-9_]\(/ && !/;[ \t]*$/ {
    name_of = $0
    sub(/\(.*/, "", name_of)
    sub(/.*[ *]/, "", name_of)
}
pure && /[^a-z0-9_](malloc|calloc|realloc|aligned_alloc|posix_memalign|strdup) *\(/ {
    if (name_of !~ /(create|init|allocate)/)
        complain("memory is asked for in " name_of ", which neither creates nor initialises")
}
pure && /[^a-z0-9_](getenv|rand|random|srand|exit|system|abort) *\(/ {
    complain("a pure folder calls out")
}
' "$file"
        done
    users=$(find worker/runtime -name '*.[ch]' -exec grep -l '<mpi-ext\.h>' {} + 2>/dev/null || true)
    if [ "$(echo "$users" | wc -l)" -gt 1 ]; then
        echo "mpi-ext.h belongs to one file, and is in: $(echo "$users" | tr '\n' ' ')"
    fi
)

found=$(violations "$source")
if [ -n "$found" ]; then
    echo "$found"
    echo "$(echo "$found" | wc -l) violations of the order of folders"
    exit 1
fi

# A checker that finds nothing proves nothing. Each line: a file, and what is planted in it.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
plant() {
    rm -rf "$scratch/tree"
    mkdir -p "$scratch/tree/$(dirname "$1")"
    printf '%b\n' "$2" >"$scratch/tree/$1"
}
expect_found() {
    plant "$1" "$2"
    if [ -z "$(violations "$scratch/tree")" ]; then
        echo "not found: $2 in $1"
        exit 1
    fi
}
expect_clean() {
    plant "$1" "$2"
    found=$(violations "$scratch/tree")
    if [ -n "$found" ]; then
        echo "wrongly found: $found"
        exit 1
    fi
}
expect_found share/base/log.c '#include "flow/flow.h"'
expect_found flow/flow.c '#include "model/model.h"'
expect_found model/gpt2.c '#include "io/tokens.h"'
expect_found io/config.c '#include "worker/protocol/protocol.h"'
expect_found worker/protocol/protocol.c '#include "worker/runtime/transport.h"'
expect_found worker/runtime/worker.c '#include "launcher/train.h"'
expect_found worker/runtime/worker.c '#include "transport.h"'
expect_found worker/simulation/cluster.c '#include <mpi.h>'
expect_found launcher/train.c '  #  include <mpi.h>'
expect_found launcher/bootstrap.c '#include <mpi-ext.h>'
expect_found launcher/inspect.c '#include <hdf5.h>'
expect_found launcher/status.c '#include <curses.h>'
expect_found launcher/status.c '#include <jansson.h>'
expect_found io/tokens.c '#include <pcre2.h>'
expect_found launcher/generate.c '#include <sentencepiece_processor.h>'
expect_found model/reference/gelu.c '#include <oneapi/dnnl/dnnl.h>'
expect_found flow/flow.c '#include <stdio.h>'
expect_found worker/protocol/route.c '#include <time.h>'
expect_found flow/flow.c 'static void grow(struct flow *flow) {\n    flow->paths = malloc(8);\n}'
expect_found worker/protocol/route.c 'int seed(void) {\n    return rand();\n}'
expect_clean flow/flow.c 'struct flow *flow_create(void) {\n    return calloc(1, 8);\n}'
expect_clean launcher/bootstrap.c '#include <mpi.h>\n#include "worker/runtime/worker.h"'
expect_clean worker/runtime/ulfm.c '#include <mpi.h>\n#include <mpi-ext.h>'
plant worker/runtime/ulfm.c '#include <mpi-ext.h>'
cp "$scratch/tree/worker/runtime/ulfm.c" "$scratch/tree/worker/runtime/transport.c"
if [ -z "$(violations "$scratch/tree")" ]; then
    echo 'not found: mpi-ext.h in two files'
    exit 1
fi
echo 'the folders depend on each other in their order'
