#!/bin/sh
# What a reader should not have to say in a review: the format, the length of files, paths of
# somebody's own machine, a key of the configuration that the README forgot.
#
# usage: sh tests/style.sh [SOURCE]
set -eu

cd "${1:-$(dirname "$0")/..}"
lines_max=900
bad=0

if [ -e .git ] && command -v git >/dev/null 2>&1; then
    files=$(git -c safe.directory="$(pwd)" ls-files --cached --others --exclude-standard)
else
    files=$(find . -path ./build -prune -o -path ./runs -prune -o -type f -print | sed 's/^\.\///')
fi
texts=$(echo "$files" | grep -E '\.([ch]|sh|cmake|cfg|md|py|sbatch|yml)$|(CMakeLists\.txt|\.ci/run)$')

# Other versions lay out some lines in another way, so only the one that the tree is kept in counts.
if command -v clang-format >/dev/null 2>&1 && clang-format --version | grep -q 'version 14\.'; then
    echo "$files" | grep -E '\.[ch]$' | tr '\n' '\0' |
        xargs -0 clang-format --dry-run -Werror --ferror-limit=3 || {
        echo 'style: format with: clang-format -i FILE'
        bad=1
    }
fi

for file in $texts; do
    [ -f "$file" ] || continue
    lines=$(wc -l <"$file")
    if [ "$lines" -gt $lines_max ]; then
        echo "$file: $lines lines: cut it into parts of at most $lines_max"
        bad=1
    fi
    # Folders that are somebody's own. The list is cut in two so that it does not find itself.
    if grep -nE "(^|[^A-Za-z0-9_.\$}/-])/(ho""me|wo""rk|ro""ot|Us""ers|m""nt)/" "$file" /dev/null; then
        echo "$file: names a folder of one machine"
        bad=1
    fi
done

# The README's table has a row for each key that the configuration knows.
keys=$(sed -n 's/^ *{"\([a-z_]*\)", "\([a-z0-9_]*\)", GWTF_CONFIG_.*/\1.\2/p' io/config_table.c 2>/dev/null |
    sed 's/^nodes\./nodes.N./; s/^link_faults\./link_faults.N./; s/^crashes\./crashes.N./')
for key in $keys; do
    if ! grep -qF "| \`$key\` |" README.md; then
        echo "README.md: no row for $key in the table of the configuration"
        bad=1
    fi
done
[ "$bad" -eq 0 ] && echo 'the style is kept'
exit "$bad"
