#!/bin/bash
# Make dist/run and its manual pages: install what is missing, choose how to link, and do it. Called by `make build`.
#
#   [LINK=static|staticx] [SNAPSHOT=0] [PYTHON=python3.x] build/build.sh
set -euo pipefail
cd "$(dirname "$0")/.."
. build/prerequisites.sh

case ${LINK:-} in
    static | staticx) why="as it was asked for" ;;
    '')
        if [ -n "$(static_python)" ]; then
            LINK=static why="for ${PYTHON:-/usr/bin/python3} has a static library with all modules"
        elif [ -z "${PYTHON:-}" ] && command -v apt-get >/dev/null; then
            LINK=static why="for a Python with a static library can be installed"
        else
            LINK=staticx why="for ${PYTHON:-python3} has no static library with all modules"
        fi
        ;;
    *) stop "unknown LINK=$LINK: static and staticx are accepted" ;;
esac
say "LINK=$LINK, $why"

tools=(gcc gcc objcopy binutils cc:libc.a libc6-dev)
if [ "$LINK" = static ]; then
    need "${tools[@]}"
    [ -n "${PYTHON:-}" ] || need static libpython3-dev py:ensurepip,venv python3-venv
    python=$(static_python)
    [ -n "$python" ] || stop "LINK=static takes a Python 3.11 or newer with a static library that has all modules, such as Debian's: PYTHON= names another"
else
    if [ -n "${PYTHON:-}" ] || [ -n "$(shared_python)" ]; then
        need "${tools[@]}"
    else
        need "${tools[@]}" shared libpython3-dev py:ensurepip,venv python3-venv
    fi
    python=$(shared_python)
    [ -n "$python" ] || stop "LINK=staticx takes a Python 3.11 or newer with libpython3.x.so and Python.h: PYTHON= names another"
fi

# All that the result depends on; when nothing of it has changed there is nothing to do.
inputs=$(
    echo "$LINK ${SNAPSHOT:-1} $("$python" -c 'import sys; print(sys.executable, sys.version)') $(gcc -dumpfullversion)"
    find build spec run pyproject.toml -type f ! -name '*.pyc' -print0 | sort -z | xargs -0 sha256sum
)
if [ -x dist/run ] && [ -f dist/run.1 ] && [ -f dist/run.toml.5 ] && [ "$(cat .work/inputs 2>/dev/null)" = "$inputs" ]; then
    say "dist/run is up to date ($LINK)"
    exit
fi

export SOURCE_DATE_EPOCH=0 PIP_ROOT_USER_ACTION=ignore
work=$PWD/.work/$LINK
mkdir -p "$work"
requirements=(build/requirements-setuptools.txt build/requirements.txt)
[ "$LINK" = static ] || requirements+=(build/requirements-staticx.txt)
make_venv "$python" "$work/venv" "${requirements[@]}"
rm -rf .work/setuptools/lib.* # modules that are gone would stay in it, and be installed
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation \
    --force-reinstall --no-index .
rm -f dist/run
"build/$LINK/build.sh" "$work/venv/bin/python" "$work" "$PWD/dist/run"
"$work/venv/bin/python" -I build/manpage.py >dist/run.1
"$work/venv/bin/python" -I build/filepage.py >dist/run.toml.5
sync dist/run dist/run.1 dist/run.toml.5 # on disk: dirty pages of the file would count as memory of the process
echo "$inputs" >.work/inputs
say "dist/run, $(stat -c %s dist/run) bytes, $(dist/run -v)"
