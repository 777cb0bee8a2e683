#!/bin/bash
# Make dist/run and dist/run.1: install what is missing, choose how to link, and do it. Called by `make build`.
#
#   [LINK=static] [PYTHON=python3.x] build/build.sh
set -euo pipefail
cd "$(dirname "$0")/.."
. build/prerequisites.sh

LINK=${LINK:-static}
case $LINK in
    static) need gcc gcc cc:libc.a libc6-dev static libpython3-dev py:ensurepip,venv python3-venv ;;
    *) stop "unknown LINK=$LINK: static is accepted" ;;
esac
python=$(static_python)
[ -n "$python" ] || stop "LINK=static takes a Python 3.11 or newer with a static library: PYTHON= names another"

# All that the result depends on; when nothing of it has changed there is nothing to do.
inputs=$(
    echo "$LINK $("$python" -c 'import sys; print(sys.executable, sys.version)') $(gcc -dumpfullversion)"
    find build spec run pyproject.toml -type f ! -name '*.pyc' -print0 | sort -z | xargs -0 sha256sum
)
if [ -x dist/run ] && [ -f dist/run.1 ] && [ "$(cat .work/inputs 2>/dev/null)" = "$inputs" ]; then
    say "dist/run is up to date ($LINK)"
    exit
fi

say "LINK=$LINK, for $python has a static library"
export SOURCE_DATE_EPOCH=0 PIP_ROOT_USER_ACTION=ignore
work=$PWD/.work/$LINK
mkdir -p "$work"
make_venv "$python" "$work/venv" build/requirements-setuptools.txt build/requirements.txt
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation \
    --force-reinstall --no-index .
rm -f dist/run
"build/$LINK/build.sh" "$work/venv/bin/python" "$work" "$PWD/dist/run"
"$work/venv/bin/python" -I build/manpage.py >dist/run.1
sync dist/run dist/run.1 # on disk: dirty pages of the file would count as memory of the process
echo "$inputs" >.work/inputs
say "dist/run, $(stat -c %s dist/run) bytes, $(dist/run -v)"
