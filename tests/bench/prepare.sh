#!/bin/bash
# Make what `make bench` compares: our builds, the same program as PyInstaller and staticx make it by default, and what
# comes from PyPI.
#
#   tests/bench/prepare.sh [venv]
#
# makes .work/bench/run-static, run-plain (without the snapshot), run-staticx, run-frozen and venv, or venv alone. Nothing
# is made twice.
set -euo pipefail
cd "$(dirname "$0")/../.."
. build/prerequisites.sh

made=$PWD/.work/bench
mkdir -p "$made"
make_venv "${PYTHON:-/usr/bin/python3}" "$made/venv" tests/bench/requirements.txt
[ "${1:-}" != venv ] || exit 0

sources=(run spec build pyproject.toml README.md LICENSE)

# A build in a copy of the sources, since dist/run is the user's: it keeps its own state there.
make_build() { # NAME VARIABLE=VALUE...
    local tree=$made/$1
    mkdir -p "$tree"
    (cd "$tree" && rm -rf "${sources[@]}")
    cp -r "${sources[@]}" "$tree"
    env "${@:2}" "$tree/build/build.sh"
    cmp -s "$tree/dist/run" "$made/run-$1" || cp "$tree/dist/run" "$made/run-$1"
}
make_build static LINK=static SNAPSHOT=1
make_build plain LINK=static SNAPSHOT=0
make_build staticx LINK=staticx

# The way that the manuals of PyInstaller and staticx show first, with the versions that our builds are made with.
venv=$made/staticx/.work/staticx/venv/bin
stamp=$(cat "$0" "$made/staticx/.work/inputs")
if [ ! -x "$made/run-frozen" ] || [ "$(cat "$made/frozen.stamp" 2>/dev/null)" != "$stamp" ]; then
    say "freezing the program with PyInstaller and staticx alone"
    work=$made/frozen
    mkdir -p "$work" && cd "$work" # where no folder named run/ is in the way
    "$venv/python" -m PyInstaller --log-level ERROR --clean -y --onefile --name run \
        --distpath "$work" --workpath "$work/build" --specpath "$work" "$venv/run" >&2
    PATH=$venv:$PATH "$venv/python" -m staticx "$work/run" "$made/run-frozen" >&2
    chmod 0755 "$made/run-frozen"
    echo "$stamp" >"$made/frozen.stamp"
fi
sync "$made"/run-*
