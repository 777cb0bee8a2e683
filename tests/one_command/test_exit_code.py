"""Contract, "Exit code"."""

import os
import re
import resource
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from harness import Starter, compile_c, open_gate

# A process killed by one of these has ended by it, whatever its default would be.
DEADLY = sorted(
    set(range(1, 65))
    - {signal.SIGCHLD, signal.SIGCONT, signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
    - {signal.SIGURG, signal.SIGWINCH, 32, 33}  # ignored by default; the C library's own
)


def no_core() -> None:
    """Keep a process killed by QUIT or SEGV from leaving a core file."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def orphans(codes: Sequence[int | str], main: int | str) -> str:
    """A shell script that leaves orphans behind, which end with these codes or by these signals, and ends itself."""
    return "; ".join([f"( ({end(code)}) & )" for code in codes] + [end(main)])


def end(code: int | str) -> str:
    return f"exit {code}" if isinstance(code, int) else f"exec sh -c 'kill -{code} $$'"


@pytest.mark.parametrize("code", [0, 1, 2, 42, 124, 125, 126, 127, 128, 143, 254, 255])
def test_the_exit_code_of_the_command(start: Starter, code: int) -> None:
    assert start.result("sh", "-c", f"exit {code}")[0] == code


@pytest.mark.parametrize("signum", DEADLY)
def test_a_command_killed_by_signal_n_counts_as_128_plus_n(start: Starter, signum: int) -> None:
    script = (
        f"import os, signal; {signum} == 9 or signal.signal({signum}, signal.SIG_DFL); os.kill(os.getpid(), {signum})"
    )
    code, _, log = start.result("python3", "-S", "-c", script, preexec_fn=no_core)
    assert code == 128 + signum
    assert f"({signum})" in log


@pytest.mark.parametrize(
    ("codes", "main", "expected"),
    [
        ([0], 0, 0),
        ([0, 0, 0], 3, 3),
        ([5], 3, 5),
        ([3], 5, 5),
        ([1, 7, 2], 0, 7),
        (["KILL"], 1, 137),
        (["TERM"], 0, 143),
        (["HUP", "TERM", 9], 10, 143),
        (["KILL"], 255, 255),
        ([200], "TERM", 200),
        ([127], 0, 127),
    ],
)
def test_the_maximum_over_the_main_command_and_adopted_orphans(
    start: Starter, codes: Sequence[int | str], main: int | str, expected: int
) -> None:
    code, _, log = start.result("sh", "-c", orphans(codes, main))
    assert code == expected, log
    assert len(re.findall(r"pid \d+: (exited|killed)", log)) == len(codes) + 1
    assert f"exiting with code {expected}" in log


def test_an_orphan_that_ends_after_the_command_counts(start: Starter, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    started = start("sh", "-c", f"(read line <{gate}; exit 9) & exit 2")
    started.wait_log("exited with code 2")
    assert started.process.poll() is None
    open_gate(gate)
    assert started.wait() == 9


def test_an_orphan_that_ends_before_the_command_counts(start: Starter, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    started = start("sh", "-c", f"( (exit 9) & ); read line <{gate}; exit 2")
    started.wait_log("exited with code 9")
    open_gate(gate)
    assert started.wait() == 9


def test_a_process_that_its_own_parent_reaped_does_not_count(start: Starter) -> None:
    assert start.result("sh", "-c", "(exit 9); sh -c 'kill -KILL $$'; exit 2")[0] == 2


def test_a_process_that_was_killed_by_run_counts(start: Starter) -> None:
    assert start.result("-s", "TERM", "sh", "-c", "sleep 1000 & exit 0")[0] == 143
    assert start.result("-s", "KILL", "sh", "-c", "sleep 1000 & exit 0")[0] == 137


def test_a_run_below_run_gives_its_exit_code(start: Starter, binary: str) -> None:
    assert start.result(binary, "-q", binary, "sh", "-c", orphans([7], 3))[0] == 7
    assert start.result(binary, "-x")[0] == 125
    assert start.result(binary, "/no/such/file")[0] == 127


def test_as_pid_1(start: Starter) -> None:
    assert start.result("sh", "-c", orphans([7, "KILL"], 3), pid_1=True)[0] == 137
    assert start.result("true", pid_1=True)[0] == 0
    assert start.result("no-such-command", pid_1=True)[0] == 127


@pytest.mark.parametrize(
    "name", ["no-such-command", "/no/such/file", "./no-such-file", "", "/dev/null/file", "dangling"]
)
def test_a_command_that_is_not_found_is_127(start: Starter, tmp_path: Path, name: str) -> None:
    (tmp_path / "dangling").symlink_to("/no/such/file")
    code, out, log = start.result("-q", name, cwd=tmp_path, env={"PATH": f"{tmp_path}:/bin"})
    assert (code, out) == (127, "")
    assert re.fullmatch(rf"run: \[error\] [^\n]*{re.escape(name)}[^\n]*not found[^\n]*\n", log)


def missing_interpreter(folder: Path) -> None:
    (folder / "command").write_text("#!/no/such/interpreter\n")
    (folder / "command").chmod(0o755)


def missing_loader(folder: Path) -> None:
    compile_c("int main(void) { return 0; }", folder / "command", "-Wl,--dynamic-linker=/no/such/loader")


def not_executable(folder: Path) -> None:
    (folder / "command").write_text("#!/bin/sh\n")
    (folder / "command").chmod(0o644)


def directory(folder: Path) -> None:
    (folder / "command").mkdir()


def interpreter_not_executable(folder: Path) -> None:
    (folder / "command").write_text("#!/etc/passwd\n")
    (folder / "command").chmod(0o755)


def link_loop(folder: Path) -> None:
    (folder / "command").symlink_to("command")


@pytest.mark.parametrize("quiet", ["-q", "-qq"])
@pytest.mark.parametrize("how", ["path", "PATH"])
@pytest.mark.parametrize(
    "make", [missing_interpreter, missing_loader, not_executable, directory, interpreter_not_executable, link_loop]
)
def test_a_command_that_is_found_but_not_executable_is_126(
    start: Starter, tmp_path: Path, make: Callable[[Path], None], how: str, quiet: str
) -> None:
    make(tmp_path)
    words = [str(tmp_path / "command")] if how == "path" else ["command"]
    code, out, log = start.result(quiet, *words, env={"PATH": f"/nowhere:{tmp_path}:/bin:/usr/bin"})
    assert (code, out) == (126, "")
    assert re.fullmatch(r"run: \[error\] [^\n]*/command[^\n]*\n", log)


def test_a_missing_interpreter_is_told_from_a_missing_command(start: Starter, tmp_path: Path) -> None:
    missing_interpreter(tmp_path)
    assert "interpreter" in start.result(str(tmp_path / "command"))[2]


def test_a_command_on_a_noexec_mount_is_126(start: Starter, tmp_path: Path, binary: str) -> None:
    (tmp_path / "mnt").mkdir()
    script = f"mount -t tmpfs -o noexec none mnt && cp /bin/true mnt/ && exec {binary} -q mnt/true"
    wrapper = Starter(shutil.which("unshare") or "unshare", tmp_path)
    code, _, log = wrapper.result("-m", "sh", "-c", script, cwd=tmp_path)
    assert (code, log.count("\n")) == (126, 1), log


def test_a_command_that_another_user_may_not_execute_is_126(binary: str, public: Path, start: Starter) -> None:
    (public / "command").write_text("#!/bin/sh\n")
    (public / "command").chmod(0o700)
    (public / "closed").mkdir(mode=0o700)
    shutil.copy("/bin/true", public / "closed")
    shutil.copy(binary, public / "run")
    wrapper = Starter(str(public / "run"), public)
    for name in ("command", "closed/true"):
        code, _, log = wrapper.result("-q", str(public / name), user=65534, group=65534)
        assert (code, log.count("\n")) == (126, 1), log


def test_bad_usage_is_125(start: Starter) -> None:
    assert start.result("-x")[0] == 125
    assert start.result()[0] == 125


@pytest.mark.parametrize("error", ["EINVAL", "EPERM"])
def test_no_subreaper_is_125(binary: str, tmp_path: Path, error: str) -> None:
    tracer = Starter("strace", tmp_path)
    marker = tmp_path / "marker"
    inject = ["-o", "/dev/null", "-e", f"inject=prctl:error={error}"]
    code, _, log = tracer.result(*inject, binary, "touch", str(marker))
    assert code == 125
    assert re.search(r"^run: \[error\] [^\n]*subreaper[^\n]*\n\Z", log, re.M)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("error", "text"), [("EAGAIN", "Resource temporarily unavailable"), ("ENOMEM", "Cannot allocate memory")]
)
def test_a_fork_that_is_refused_is_125(binary: str, tmp_path: Path, error: str, text: str) -> None:
    tracer = Starter("strace", tmp_path)
    inject = ["-o", "/dev/null", "-e", f"inject=clone,clone3,fork,vfork:error={error}"]
    code, _, log = tracer.result(*inject, binary, "-q", "true")
    assert code == 125
    assert re.fullmatch(rf"run: \[error\] [^\n]*{text}\n", log)
