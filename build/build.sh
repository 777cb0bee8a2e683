#!/bin/bash
# Make dist/run: install what is missing, choose how to link, and do it. Called by `make build`.
#
#   [LINK=static|staticx] [PYTHON=python3.x] build/build.sh
set -euo pipefail
cd "$(dirname "$0")/.."
. build/prerequisites.sh

case ${LINK:-} in
    '' | static) ;;
    *) stop "unknown LINK=$LINK: static is accepted" ;;
esac
export SOURCE_DATE_EPOCH=0

python=$(static_python)
if [ -z "$python" ] || [ -n "$(missing_packages)" ]; then
    install_packages
    python=$(static_python)
    [ -n "$python" ] || stop "no Python here has a static library (libpython3.x.a) beside it"
fi
echo "build: LINK=static, since $("$python" -V) ($python) has a static library; see README.md"

work=$PWD/.work/static
make_venv "$python" "$work/venv"
build/static/build.sh "$work/venv/bin/python" "$work" "$PWD/dist/run"
echo "build: dist/run, $(stat -c %s dist/run) bytes, $(dist/run -v)"
