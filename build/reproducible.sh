#!/bin/bash
# Build twice more, from nothing: here, and in a copy in another folder. Called by `make reproducible`.
set -euo pipefail
cd "$(dirname "$0")/.."
. build/prerequisites.sh

first=$(sha256sum <dist/run)
other=$(mktemp -d)
trap 'rm -rf "$other"' EXIT

rm -rf .work/inputs dist/run ".work/${LINK:-static}"
build/build.sh
again=$(sha256sum <dist/run)

cp -r run spec build pyproject.toml README.md LICENSE "$other"
(cd "$other" && build/build.sh)
elsewhere=$(sha256sum <"$other/dist/run")

printf 'dist/run           %s\nbuilt again        %s\nin another folder  %s\n' "$first" "$again" "$elsewhere"
if [ "$first" != "$again" ] || [ "$first" != "$elsewhere" ]; then
    stop "the bytes differ"
fi
say "the same bytes three times"
