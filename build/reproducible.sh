#!/bin/bash
# Build twice more, from nothing: here, and in a copy in another folder, with another environment, and by another user if this
# one may become one. Called by `make reproducible`.
set -euo pipefail
cd "$(dirname "$0")/.."
. build/prerequisites.sh

first=$(sha256sum <dist/run)
other=$(mktemp -d)
trap 'rm -rf "$other"' EXIT

rm -rf .work/inputs dist/run ".work/${LINK:-static}"
build/build.sh
again=$(sha256sum <dist/run)

mkdir "$other/home" "$other/sources"
cp -r run spec build pyproject.toml README.md LICENSE "$other/sources"
become=() who="the same user"
if [ "$(id -u)" = 0 ]; then
    become=(setpriv --reuid=65534 --regid=65534 --clear-groups) who="another user"
    chown -R 65534:65534 "$other"
fi
(
    cd "$other/sources"
    umask 077
    unset LANG LANGUAGE
    export HOME=$other/home TZ=Pacific/Chatham LC_ALL=C TMPDIR=$other/home
    "${become[@]}" build/build.sh
)
elsewhere=$(sha256sum <"$other/sources/dist/run")

printf 'dist/run     %s\nbuilt again  %s\nelsewhere    %s\n' "$first" "$again" "$elsewhere"
if [ "$first" != "$again" ] || [ "$first" != "$elsewhere" ]; then
    stop "the bytes differ"
fi
say "the same bytes three times: the last ones from another folder and environment, by $who"
