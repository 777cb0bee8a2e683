#!/bin/bash
# Run the tests, the linters, the benchmark or the soak with their pinned tools. Called by `make test`, `make lint` and so on.
#
#   build/check.sh test|lint|bench|soak|boots|elsewhere [ARGUMENT...]
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
            /bin/busybox busybox-static musl-gcc musl-tools mandoc mandoc less less runsvdir runit tini tini \
            file file valgrind valgrind eu-elflint elfutils patchelf patchelf setarch util-linux
        if [ "$(uname -m)" = x86_64 ]; then # later distributions have only the other name
            (need qemu-x86_64-static qemu-user-static) || need qemu-x86_64 qemu-user
        fi
        stalls=() # STALLS=1: processors stand still for moments meanwhile
        [ -z "${STALLS:-}" ] || stalls=("$python" tests/tools/stalls.py)
        exec "${stalls[@]}" .work/tests-venv/bin/pytest --numprocesses auto --dist loadfile --no-loadscope-reorder "$@"
        ;;
    lint)
        need shellcheck shellcheck
        mapfile -t scripts < <(git -c safe.directory="$PWD" ls-files | xargs grep -lE '^#!/bin/(ba)?sh|^# shellcheck shell' --)
        shellcheck -x "${scripts[@]}"
        .work/tests-venv/bin/ruff check
        .work/tests-venv/bin/ruff format --check
        .work/tests-venv/bin/mypy
        ;;
    bench)
        # Beside all peers; QUICK=1 measures dist/run beside tini only, with services beside runit and honcho, which limits
        # name, and leaves the committed results alone.
        need gcc gcc cc:libc.a libc6-dev tini tini unshare util-linux setpriv util-linux valgrind valgrind \
            runsvdir runit
        if [ -n "${QUICK:-}" ]; then
            build/build.sh
            tests/bench/prepare.sh venv
            choice=(--binary dist/run --gigabytes 0.25)
        else
            need dumb-init dumb-init catatonit catatonit supervisord supervisor patchelf patchelf \
                s6-svscan s6 svscan daemontools /bin/busybox busybox-static
            tests/bench/prepare.sh
            choice=(--binary .work/bench/run-static --binary .work/bench/run-plain --binary .work/bench/run-staticx
                --frozen .work/bench/run-frozen --results tests/bench --readme README.md)
        fi
        PYTHONPATH=tests/tools exec .work/tests-venv/bin/python tests/bench/bench.py "${choice[@]}" "$@"
        ;;
    boots)
        need qemu-system-x86_64 qemu-system-x86 /bin/busybox busybox-static dpkg-deb dpkg
        exec "$python" tests/build/boots.py "$@"
        ;;
    elsewhere)
        # Other machines and distributions: each is built and tested in by a script of its own, which takes its time.
        engines=()
        for engine in ${ENGINES:-}; do
            case $engine in
                arm64)
                    need debootstrap debootstrap qemu-system-aarch64 qemu-system-arm mke2fs e2fsprogs depmod kmod cpio cpio
                    tests/elsewhere/arm64.sh .work/arm64 ;;
                bookworm | trixie | forky | sid | jammy | noble | questing | resolute)
                    need debootstrap debootstrap unshare util-linux
                    tests/elsewhere/distribution.sh "$engine" .work/distributions ;;
                *) engines+=("$engine") ;;
            esac
        done
        [ -z "${ENGINES:-}" ] || [ ${#engines[@]} -gt 0 ] || exit 0
        ENGINES=${engines[*]}
        # What cannot be installed is no reason to stop: the table tells which engine is not there.
        dockers=(dockerd docker.io docker docker.io)
        podmans=(podman podman crun crun runc runc newuidmap uidmap catatonit catatonit setpriv util-linux)
        gvisors=("${dockers[@]}" runsc runsc)
        nspawns=(systemd-nspawn systemd-container nsenter util-linux)
        # All at once is quicker, and leaves nothing to do below.
        [ -n "${ENGINES:-}" ] || (need "${podmans[@]}" "${gvisors[@]}" "${nspawns[@]}" /bin/busybox busybox-static) || true
        for engine in ${ENGINES:-docker podman gvisor nspawn swarm}; do
            case $engine in
                podman*) (need "${podmans[@]}" && tests/elsewhere/quadlet.sh .work/quadlet) ;;
                gvisor) (need "${gvisors[@]}") ;;
                docker | swarm) (need "${dockers[@]}") ;;
                kubernetes)
                    (
                        need etcd etcd-server containerd containerd runc runc kubectl kubernetes-client openssl openssl \
                            ip iproute2 /usr/lib/cni/ptp containernetworking-plugins iptables iptables \
                            go golang-go gcc gcc cc:libc.a libc6-dev
                        tests/elsewhere/kubernetes.sh .work/kubernetes
                    ) ;;
                nspawn) (need "${nspawns[@]}") ;;
            esac || true
        done
        need /bin/busybox busybox-static
        choice=()
        [ -z "${ENGINES:-}" ] || choice+=(--engines "$ENGINES")
        [ -z "${RESULTS:-}" ] || choice+=(--results tests/elsewhere/RESULTS.md --results README.md)
        PYTHONPATH=tests/tools exec .work/tests-venv/bin/python tests/elsewhere/elsewhere.py "${choice[@]}" "$@"
        ;;
    soak)
        need gcc gcc cc:libc.a libc6-dev unshare util-linux
        exec "$python" tests/soak/soak.py --binary dist/run "$@"
        ;;
esac
