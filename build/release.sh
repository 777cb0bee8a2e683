#!/bin/bash
# Make what is published: both builds, the manual pages, the licences of all that is linked in, and SHA256SUMS. Called by
# `make release`.
#
#   build/release.sh [TARGET]
#
# They go into a new folder TARGET; if it is left out, into dist/release, which is made anew. They are built from nothing,
# in a copy of the sources, so that dist/run stays what it is. It takes Debian or its kin, whose packages bring the
# licences.
set -euo pipefail
cd "$(dirname "$0")/.."
. build/prerequisites.sh

if [ $# -gt 0 ]; then
    [ ! -e "$1" ] || stop "$1 is there already"
else
    rm -rf dist/release
fi
target=$(realpath -m "${1:-dist/release}")
copy=$PWD/.work/release
architecture=$(uname -m)
need dpkg-query dpkg
if changes=$(git -c safe.directory="$PWD" status --porcelain 2>/dev/null) && [ -n "$changes" ]; then
    say "note: there are changes that are not committed, and they are released, too"
fi

# The virtual environments are kept for the next time; they are made anew when their packages change.
mkdir -p "$copy/.work"
find "$copy" -mindepth 1 -maxdepth 1 ! -name .work -exec rm -rf {} +
find "$copy/.work" -mindepth 1 -maxdepth 2 ! -name static ! -name staticx ! -name venv -prune -exec rm -rf {} +
cp -r run spec build pyproject.toml README.md LICENSE "$copy"

mkdir -p "$target"
cd "$copy"
for LINK in static staticx; do
    export LINK
    build/build.sh
    version=$(dist/run -v)
    name=run-${version#run }-linux-$architecture
    [ "$LINK" = static ] || name+=-$LINK
    install -m 0755 dist/run "$target/$name"
    ".work/$LINK/venv/bin/python" -I build/licences.py "$LINK" ".work/$LINK" >"$target/$name.licences.txt"
    install -m 0644 dist/*.[1-8] "$target"
done

cd "$target"
chmod 0644 ./*.txt
LC_ALL=C sha256sum -- * >.sums
mv .sums SHA256SUMS
say "$target:"
cat SHA256SUMS
