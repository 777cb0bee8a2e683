"""Contract, "Bad days": what is refused, missing, or too small."""

import os
import re
import resource
import shutil
import signal
from pathlib import Path

import pytest
from harness import Starter, children, state, wait_until, waiting_for

NOBODY = 65534
ONE_ERROR = re.compile(r"run: \[error\] [^\n]+\n")
ORPHANS = ("sh", "-c", "( (exit 5) & ); exit 3")


@pytest.fixture
def copy(binary: str, public: Path) -> Starter:
    """Starts a copy of the binary that every user may reach and execute, but not read."""
    shutil.copy(binary, public / "run")
    (public / "run").chmod(0o111)
    (public / "logs").mkdir(mode=0o755)
    return Starter(str(public / "run"), public / "logs")


def unshared(tmp_path: Path, setup: str) -> Starter:
    """Starts a command line in a mount namespace of its own, after a setup as shell script."""
    script = tmp_path / "unshared"
    script.write_text(f'#!/bin/sh\nexec unshare --mount sh -ec \'{setup}\nexec "$@"\' sh "$@"\n')
    script.chmod(0o755)
    return Starter(str(script), tmp_path)


def test_a_fork_refused_by_RLIMIT_NPROC(copy: Starter) -> None:
    def setup() -> None:
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))

    code, out, log = copy.result("-q", "echo", "started", preexec_fn=setup, user=NOBODY + 1, group=NOBODY + 1, cwd="/")
    assert (code, out) == (125, "")
    assert ONE_ERROR.fullmatch(log) and "fork" in log and "echo started" in log


def test_a_fork_refused_by_the_pids_cgroup(start: Starter) -> None:
    group = Path("/sys/fs/cgroup/pids") / f"test-of-run-{os.getpid()}"
    try:
        group.mkdir()
    except OSError:
        pytest.skip("no pids cgroup may be made here")
    try:
        (group / "pids.max").write_text("1")
        code, _, log = start.result("-q", "true", preexec_fn=lambda: (group / "cgroup.procs").write_text("0"))
        assert code == 125
        assert ONE_ERROR.fullmatch(log) and "fork" in log
    finally:
        wait_until(lambda: not (group / "cgroup.procs").read_text(), "the group is empty")
        group.rmdir()


NO_PROC = "mount -t tmpfs none /proc"


def test_without_proc_a_command_is_started_and_orphans_are_reaped(tmp_path: Path, binary: str) -> None:
    code, _, log = unshared(tmp_path, NO_PROC).result(binary, *ORPHANS)
    assert code == 5
    assert "[error]" not in log


def test_without_proc_signals_reach_the_main_group(tmp_path: Path, binary: str) -> None:
    started = unshared(tmp_path, NO_PROC)(binary, *waiting_for("USR1", 7))
    started.wait_out("ready")
    started.send(signal.SIGUSR1)
    assert started.wait() == 7


def test_without_proc_s_ends_what_remains_in_the_main_group(tmp_path: Path, binary: str) -> None:
    code, _, log = unshared(tmp_path, NO_PROC).result(binary, "-s", "TERM", "sh", "-c", "sleep 1000 & exit 0")
    assert code == 143, log


def test_without_proc_PID_1_signals_everything_in_its_namespace(tmp_path: Path, binary: str) -> None:
    script = 'setsid sleep 1000 & sh -c "setsid sleep 1000 & exit 0"; exit 0'
    starter = unshared(tmp_path, NO_PROC)
    code, _, log = starter.result(
        "unshare", "--pid", "--fork", "--kill-child", binary, "-s", "TERM", "-t5", "sh", "-c", script
    )
    assert code == 143, log
    assert log.count("killed by TERM (15)") == 2


def test_the_proc_of_another_pid_namespace_is_not_believed(tmp_path: Path, binary: str) -> None:
    """After unshare(2) the old /proc stays mounted: its numbers mean other processes."""
    words = ["--pid", "--fork", "--kill-child", binary, "-s", "TERM", "sh", "-c", "setsid sleep 1000 & exit 0"]
    code, _, log = Starter("unshare", tmp_path).result(*words)
    assert code == 143, log


def test_where_run_has_children_from_before_it_was_executed_all_get_the_signals(tmp_path: Path, binary: str) -> None:
    """As of `exec run` in a shell. They are listed before its descriptors are sorted out."""
    other = 'setsid sh -c \'trap "echo other" USR1; trap "exit 0" TERM; echo ready; while :; do sleep 0.1; done\''
    main = "trap 'echo main' USR1; trap 'exit 7' TERM; echo begun; while :; do sleep 0.1; done"
    started = Starter("sh", tmp_path)("-c", f'{other} & exec "$@"', "sh", binary, "-q", "sh", "-c", main)
    started.wait_out("ready")
    started.wait_out("begun")
    started.send(signal.SIGUSR1)
    wait_until(lambda: all(started.out().count(who) == 1 for who in ("main", "other")), "both have got it")
    started.send(signal.SIGUSR1)
    wait_until(lambda: all(started.out().count(who) == 2 for who in ("main", "other")), "both have got it again")
    started.send(signal.SIGTERM)
    assert started.wait() == 7
    assert "run:" not in started.log()


GOES_AWAY = """
trap 'n=$((n + 1)); echo "main $n"; [ $n -gt 1 ] || mount -t tmpfs none /proc; echo done $n' USR1
( setsid sh -c 'trap "echo daemon" USR1; trap "exit 9" TERM; echo ready; while :; do sleep 0.1; done' & )
trap 'exit 0' TERM
while :; do sleep 0.1; done
"""


def test_a_proc_that_goes_away_after_the_first_signal_is_missed_by_nobody(tmp_path: Path, binary: str) -> None:
    """The list of children is open since, and without it the daemon's group would be missed."""
    started = unshared(tmp_path, "true")(binary, "-q", "sh", "-c", GOES_AWAY)
    started.wait_out("ready")
    started.send(signal.SIGUSR1)
    started.wait_out("done 1")
    started.wait_out("daemon")
    started.send(signal.SIGUSR1)
    started.wait_out("done 2")
    wait_until(lambda: started.out().count("daemon") == 2, "the daemon has got both")
    started.send(signal.SIGTERM)
    assert started.wait() == 9


@pytest.mark.parametrize("past", [6, 8, 10, -500])
def test_a_user_in_very_many_groups(start: Starter, past: int) -> None:
    """Their numbers come before NSpid in /proc/PID/status, which then goes on past 4096 bytes, where a read may end."""

    def setup() -> None:
        count = 0
        while Path("/proc/self/status").read_bytes().find(b"\nNSpid:") < 4096 - past:
            count += 1
            os.setgroups(range(10_000, 10_000 + count))

    started = start("sh", "-c", "(setsid sleep 1000 &); exec sleep 1000", preexec_fn=setup)
    wait_until(lambda: len({os.getpgid(child) for child in children(started.pid)}) == 2, "a daemon, in its own group")
    started.send(signal.SIGTERM)
    assert started.wait() == 143


def test_in_a_root_that_has_nothing_but_the_binary(tmp_path: Path, binary: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    shutil.copy(binary, root / "run")
    chroot = Starter("chroot", tmp_path)
    code, out, log = chroot.result(str(root), "/run", "-v")
    assert (code, log) == (0, "")
    code, out, log = chroot.result(str(root), "/run", "/run", "-q", "/run", "-v")
    assert (code, out.split()[0]) == (0, "run")
    assert "error" not in log
    code, _, log = chroot.result(str(root), "/run", "-q", "sh")
    assert code == 127
    assert ONE_ERROR.fullmatch(log)


@pytest.mark.parametrize("user", [0, 1, 1000, NOBODY, 4_000_000_000])
def test_any_user_id_with_a_binary_that_may_only_be_executed(copy: Starter, user: int) -> None:
    code, out, log = copy.result(
        "sh", "-c", "( (exit 5) & ); id -u; exit 3", user=user, group=user, extra_groups=[], cwd="/"
    )
    assert (code, out) == (5, f"{user}\n")
    assert "[error]" not in log and "[warn]" not in log


def test_signals_reach_daemons_with_a_binary_that_may_only_be_executed(copy: Starter) -> None:
    """Such a process is not dumpable, so that most of its /proc belongs to root."""
    script = "setsid sleep 1000 & exit 0"
    code, _, log = copy.result("-s", "TERM", "sh", "-c", script, user=NOBODY, group=NOBODY, cwd="/")
    assert code == 143, log


def test_without_capabilities(tmp_path: Path, copy: Starter) -> None:
    bare = ["--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all", "--no-new-privs"]
    code, _, log = Starter("setpriv", tmp_path).result(*bare, copy.binary, *ORPHANS)
    assert code == 5, log
    assert "[error]" not in log


READ_ONLY = """
mount -o bind / /mnt; mount -t proc none /mnt/proc; mount -o bind /dev /mnt/dev; mount -t tmpfs -o ro none /mnt/dev/shm
mount -t tmpfs none /mnt/tmp; cp {binary} /mnt/tmp/run; mount -o remount,ro /mnt/tmp; mount -o remount,ro,bind /mnt
"""
ORPHANS_IF_READ_ONLY = (
    "for d in / /tmp /var/tmp /dev/shm /run .; do touch $d/x 2>/dev/null && exit 9; done; ( (exit 5) & ); exit 3"
)


@pytest.mark.static_only("what it says where it can write nowhere is in test_containers.py")
def test_a_read_only_root_and_no_writable_directory(tmp_path: Path, binary: str) -> None:
    starter = unshared(tmp_path, READ_ONLY.format(binary=binary))
    code, _, log = starter.result("chroot", "/mnt", "/tmp/run", "-d", "sh", "-c", ORPHANS_IF_READ_ONLY)
    assert code == 5, log
    assert "[error]" not in log


def test_stdin_being_a_directory(start: Starter) -> None:
    fd = os.open("/", os.O_RDONLY)
    try:
        code, out, log = start.result("readlink", "/proc/self/fd/0", stdin=fd)
        assert (code, out) == (0, "/\n")
        assert "[error]" not in log and "[warn]" not in log
    finally:
        os.close(fd)


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)], ids=str)
def test_closed_standard_files(start: Starter, closed: tuple[int, ...]) -> None:
    def setup() -> None:
        for fd in closed:
            os.close(fd)

    started = start("-s", "TERM", "sh", "-c", "sleep 1000 & exit 3", preexec_fn=setup)
    assert started.wait() == 143
    if 2 not in closed:
        assert len(started.log().splitlines()) == 7 and "[error]" not in started.log()
    if 1 not in closed:
        assert started.out() == ""


def test_an_empty_environment(start: Starter) -> None:
    assert start.result("-q", "/usr/bin/env", env={}) == (0, "", "")


@pytest.mark.parametrize(
    "locale", ["xx_XX.no-such-charset", "C", "POSIX", "tr_TR.UTF-8", "\udcff", "de_DE.ISO-8859-1", "../../../etc"]
)
def test_an_unknown_locale(start: Starter, locale: str) -> None:
    environment = {"PATH": os.environ["PATH"], "LC_ALL": locale, "LANG": locale, "LANGUAGE": locale, "LC_CTYPE": locale}
    code, out, log = start.result("-s", "int", "echo", "\xe4\u20ac", "\udcff", env=environment)
    assert code == 0
    assert out == "\xe4\u20ac \ufffd\n"
    assert "[error]" not in log and "started echo \xe4\u20ac" in log


def test_a_stopped_and_continued_run_loses_nothing(start: Starter) -> None:
    started = start("-s", "TERM", *waiting_for("USR1", 7))
    started.wait_out("ready")
    started.send(signal.SIGSTOP)
    wait_until(lambda: state(started.pid) == "T", "run is stopped")
    started.send(signal.SIGUSR1)
    command = children(started.pid)[0]
    wait_until(lambda: state(command) == "S", "the command still waits")
    started.send(signal.SIGCONT)
    assert started.wait() == 7
