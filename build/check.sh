#!/bin/bash
# Run the tests, the linters or the benchmark with their pinned tools. Called by `make test`, `make lint`, `make bench`.
#
#   build/check.sh test|lint|bench [ARGUMENT...]
set -euo pipefail
cd "$(dirname "$0")/.."
. build/prerequisites.sh

what=$1
shift
python=${PYTHON:-/usr/bin/python3}
need py:ensurepip,venv python3-venv
make_venv "$python" .work/tests-venv tests/requirements.txt
case $what in
    test)
        need gcc gcc cc:libc.a libc6-dev strace strace unshare util-linux setpriv util-linux ps procps \
            /bin/busybox busybox-static musl-gcc musl-tools mandoc mandoc
        exec .work/tests-venv/bin/pytest "$@"
        ;;
    lint)
        need shellcheck shellcheck
        mapfile -t scripts < <(git ls-files | xargs grep -lE '^#!/bin/(ba)?sh|^# shellcheck shell' --)
        shellcheck -x "${scripts[@]}"
        .work/tests-venv/bin/ruff check
        .work/tests-venv/bin/ruff format --check
        .work/tests-venv/bin/mypy
        ;;
    bench)
        need gcc gcc tini tini
        exec "$python" tests/bench/bench.py --binary dist/run "$@"
        ;;
esac
