"""The bundle of LINK=staticx: limits while it starts, one process from start to end, nothing left behind."""

import os
import re
import resource
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from bundles import ROOT
from harness import DEADLINE, Starter, children, status, wait_until

NOBODY = 65534
MEGABYTE = 1024 * 1024


def test_limits_of_files_and_the_umask_are_the_commands(launch: Starter, tmp_path: Path) -> None:
    def setup() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        resource.setrlimit(resource.RLIMIT_NOFILE, (7, 1000))
        os.umask(0o777)

    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    script = "ulimit -f; umask; ulimit -n; ulimit -Hn"
    code, out, _ = launch.result("sh", "-c", script, preexec_fn=setup, env=environment)
    assert (code, out.split()) == (0, ["8", "0777", "7", "1000"])


def unprivileged(binary: str, limit: tuple[int, int, int]) -> tuple[int, str]:
    """Exit code and stderr when it is started by a user who may not raise a limit: its kind, soft and hard value."""

    def setup() -> None:
        resource.setrlimit(limit[0], limit[1:])
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)

    command = [binary, "-q", "/bin/sh", "-c", "exit 7"]
    done = subprocess.run(command, preexec_fn=setup, capture_output=True, text=True, check=False, timeout=DEADLINE)
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("kind", "limit", "message"),
    [
        (resource.RLIMIT_NOFILE, 8, "cannot make a memfd: Too many open files"),
        (resource.RLIMIT_FSIZE, 4096, "cannot write to a memfd: File too large"),
    ],
)
def test_a_limit_that_is_too_small_and_may_not_be_raised(
    public_bundle: str, kind: int, limit: int, message: str
) -> None:
    code, err = unprivileged(public_bundle, (kind, limit, limit))
    assert (code, err) == (125, f"run: [error] cannot start: {message}\n")


@pytest.mark.parametrize("kind", [resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE])
def test_a_limit_that_anybody_may_raise_is_raised_for_the_moment(public_bundle: str, kind: int) -> None:
    assert unprivileged(public_bundle, (kind, 8, 1 << 30 if kind == resource.RLIMIT_FSIZE else 1024)) == (7, "")


def test_a_user_id_that_is_not_the_effective_one(public_bundle: str) -> None:
    """AT_SECURE of getauxval(3): neither can /proc be used, nor does the dynamic loader obey its variables."""

    def setup() -> None:
        os.setgroups([])
        os.setresgid(100, 100, 100)
        os.setresuid(NOBODY, 1000, 1000)

    done = subprocess.run([public_bundle, "-qq", "sh", "-c", "exit 7"], preexec_fn=setup, check=False, timeout=DEADLINE)
    assert done.returncode == 7


# One process, and nothing left


def test_the_process_that_was_started_is_the_only_one(launch: Starter) -> None:
    started = launch("-q", "sleep", "1000")
    wait_until(lambda: children(started.pid), "the command was started")
    assert len(children(started.pid)) == 1
    assert status(started.pid)["Name"] == Path(launch.binary).name[:15]
    assert Path(f"/proc/{started.pid}/cmdline").read_bytes() == os.fsencode(f"{launch.binary}\0-q\0sleep\0001000\0")


def test_nothing_is_left_behind_once_the_command_runs(launch: Starter, tmp_path: Path) -> None:
    folder = tmp_path / "tmp"
    folder.mkdir()
    started = launch("sleep", "1000", env={**os.environ, "TMPDIR": str(folder)})
    started.wait_log("started sleep")
    assert os.listdir(folder) == []
    # stderr is a regular file, which the log does not open again
    wait_until(lambda: os.listdir(f"/proc/{started.pid}/fd") == ["2"], "run holds stderr, and nothing else")


def test_killed_at_any_moment_it_leaves_at_most_its_directory_of_links(launch: Starter, tmp_path: Path) -> None:
    folder = tmp_path / "tmp"
    folder.mkdir()
    names, left = set(), 0
    for step in range(120):
        started = launch("-qq", "sleep", "1000", env={**os.environ, "TMPDIR": str(folder)})
        end = time.monotonic() + (DEADLINE if step % 2 else step * 0.0003)
        while time.monotonic() < end:
            if step % 2 and (os.listdir(folder) or children(started.pid) or started.process.poll() is not None):
                break
        os.kill(started.process.pid, signal.SIGKILL)
        started.wait()
        found = list(folder.iterdir())
        assert len(found) <= 1
        for directory in found:
            assert re.fullmatch(r"\.run-[0-9a-f]{16}", directory.name)
            assert directory.stat().st_mode & 0o777 == 0o700
            assert all(path.is_symlink() for path in directory.iterdir())
            names.add(directory.name)
            left += 1
            shutil.rmtree(directory)
    assert left, "it was never killed in time: the test has shown nothing"
    assert len(names) == left, "a name came twice: it could be foreseen"


def test_somebody_who_renames_the_directory_or_puts_links_in_its_place(launch: Starter, public: Path) -> None:
    """A directory for everybody, without the sticky bit, and another user who is quick."""
    folder = public / "open"
    evil = public / "evil"
    for path in (folder, evil):
        path.mkdir()
        path.chmod(0o777)
    attack = (
        f"import os; os.setgid({NOBODY}); os.setuid({NOBODY}); os.chdir({str(folder)!r})\n"
        "print(flush=True); n = 0\n"
        "while True:\n"
        "    for name in os.listdir():\n"
        "        if name.startswith('.run'):\n"
        "            try:\n"
        f"                n += 1; os.rename(name, f'moved-{{n}}'); os.symlink({str(evil)!r}, name)\n"
        "            except OSError: pass\n"
    )
    attacker = subprocess.Popen(["python3", "-S", "-c", attack], stdout=subprocess.PIPE)
    try:
        assert attacker.stdout is not None
        attacker.stdout.readline()
        for _ in range(25):
            assert launch.result("-qq", "sh", "-c", "exit 7", env={**os.environ, "TMPDIR": str(folder)})[::2] == (7, "")
    finally:
        attacker.kill()
        attacker.communicate()
    assert any(name.startswith("moved") for name in os.listdir(folder)), "the attack never came in time"
    assert os.listdir(evil) == []


def test_standard_descriptors_that_are_closed_stay_closed(launch: Starter) -> None:
    def setup() -> None:
        for fd in (0, 1, 2):
            os.close(fd)

    assert (
        launch.result(
            "sh", "-c", "test ! -e /proc/$$/fd/0 -a ! -e /proc/$$/fd/1 -a ! -e /proc/$$/fd/2", preexec_fn=setup
        )[0]
        == 0
    )


def test_a_signal_in_the_first_instant_is_not_lost(launch: Starter) -> None:
    """Pending when the launcher is executed, blocked until then: it reaches the command."""

    def setup() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        os.kill(os.getpid(), signal.SIGUSR1)

    trap = "import signal; print(signal.sigwait([signal.SIGUSR1]))"
    code, out, _ = launch.result("python3", "-S", "-c", trap, preexec_fn=setup)
    assert (code, out) == (0, "10\n")


# Sizes


def test_it_is_not_larger_than_14_MB(bundle: Path) -> None:
    assert bundle.stat().st_size <= 14 * MEGABYTE


def test_its_private_memory_is_at_most_13_MB(launch: Starter) -> None:
    started = launch("sleep", "1000")
    started.wait_log("started sleep")
    lines = Path(f"/proc/{started.pid}/smaps_rollup").read_text().splitlines()
    dirty = sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty"))
    assert dirty * 1024 <= 13 * MEGABYTE


def test_the_launcher_is_at_most_300_lines() -> None:
    assert len((ROOT / "build" / "staticx" / "launcher.c").read_text().splitlines()) <= 300
