"""Contract, "Log": each event's line, the levels, one write(2) per line."""

import os
import re
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest
from harness import Starter, children, state, wait_until, waiting_for

LINE = re.compile(r"run: \[(info|warn|error)\] \S.*")
LONGEST = 4096


def lines(log: str, level: str | None = None) -> list[str]:
    """The messages of a level, or of all; fails when a line is not as the contract says."""
    found = []
    for line in log.splitlines():
        match = LINE.fullmatch(line)
        assert match, f"not a line of the log: {line!r}"
        if level in (None, match[1]):
            found.append(line)
    return found


def test_own_pid_the_command_started_its_end_and_the_final_exit_code(start: Starter) -> None:
    started = start("sh", "-c", "echo $$; exit 3")
    assert started.wait() == 3
    pid = int(started.out())
    log = lines(started.log(), "info")
    assert log == lines(started.log())
    assert str(started.pid) in log[0] and "pid" in log[0]
    assert f"pid {pid}: started sh -c" in log[1]
    assert log[2] == f"run: [info] pid {pid}: exited with code 3"
    assert log[3].endswith("exiting with code 3")
    assert len(log) == 4


@pytest.mark.parametrize(
    ("signum", "name"),
    [(9, "KILL"), (15, "TERM"), (10, "USR1"), (13, "PIPE"), (34, "RTMIN"), (37, "RTMIN+3"), (64, "RTMIN+30")],
)
def test_a_process_that_was_killed_by_name_and_number(start: Starter, signum: int, name: str) -> None:
    log = start.result("sh", "-c", f"kill -{signum} $$")[2]
    assert re.search(rf"^run: \[info\] pid \d+: killed by {re.escape(name)} \({signum}\)$", log, re.M)


def test_each_orphan_that_ended(start: Starter) -> None:
    log = start.result("sh", "-c", "( (exit 5) & ); ( (exit 7) & ); exit 1")[2]
    for text in ("exited with code 5", "exited with code 7"):
        assert len([line for line in lines(log, "info") if line.endswith(text)]) == 1


@pytest.mark.parametrize("signum", [signal.SIGHUP, signal.SIGUSR2, signal.SIGWINCH, signal.SIGRTMIN + 5])
def test_a_signal_that_is_forwarded(start: Starter, signum: int) -> None:
    started = start(*waiting_for("TERM"))
    started.wait_out("ready")
    started.send(signum)
    started.wait_log("forwarding")
    group = children(started.pid)[0]
    line = next(line for line in lines(started.log(), "info") if "forwarding" in line)
    assert f"({int(signum)})" in line and str(group) in line
    started.send(signal.SIGTERM)
    started.wait()


def test_a_signal_that_is_sent_and_the_shutdown(start: Starter) -> None:
    log = start.result("-s", "USR1", "sh", "-c", "sleep 1000 & exit 3")[2]
    assert len([line for line in lines(log, "info") if "shutdown" in line]) == 1
    assert len([line for line in lines(log, "info") if "sending USR1 (10)" in line]) == 1


def test_a_KILL_that_is_sent(start: Starter) -> None:
    script = "trap '' TERM; sleep 1000 & exit 3"
    log = start.result("-s", "TERM", "-t", "0.1", "sh", "-c", script)[2]
    assert [line for line in lines(log, "info") if "sending KILL (9)" in line]


def test_a_stopped_child(start: Starter) -> None:
    started = start("sh", "-c", "kill -STOP $$; exit 4")
    started.wait_log("stopped by STOP (19)")
    started.send(signal.SIGCONT)
    assert started.wait() == 4


def every_level(quiet: Sequence[str]) -> tuple[str, ...]:
    """A command line that gives a line of each level: info, a warning for -d, and an error."""
    return (*quiet, "-d", "no-such-command")


@pytest.mark.parametrize(
    ("quiet", "levels"),
    [
        ([], {"info", "warn", "error"}),
        (["-q"], {"warn", "error"}),
        (["-qq"], {"error"}),
        (["-q", "-q"], {"error"}),
        (["-qqqqqqq"], {"error"}),
    ],
)
def test_q_drops_info_and_qq_warnings_too(start: Starter, quiet: list[str], levels: set[str]) -> None:
    code, _, log = start.result(*every_level(quiet))
    assert code == 127
    assert {level for level in ("info", "warn", "error") if lines(log, level)} == levels


def test_each_line_is_a_single_write(binary: str, tmp_path: Path) -> None:
    tracer = Starter("strace", tmp_path)
    trace = tmp_path / "trace"
    script = "( (exit 5) & ); sleep 1000 & exit 3"
    options = [
        "-f",
        "-qq",
        "-s",
        "10000",
        "-e",
        "trace=write,writev,pwritev,pwritev2,pwrite64,sendto,sendmsg",
        "-o",
        str(trace),
    ]
    _, _, log = tracer.result(*options, binary, "-d", "-s", "TERM", "sh", "-c", script)
    written = re.findall(r'\d+ +(\w+)\(\d+, (?:\[\{iov_base=)?"(run: .*?)"(?:\.\.\.)?[,}]', trace.read_text())
    assert [text.replace(r"\n", "\n") for _, text in written] == [line + "\n" for line in lines(log)]
    assert len(written) > 6


HOSTILE = [
    b"a\nb",
    b"\nrun: [error] forged",
    b"\r",
    b"\x1b[2J",
    b"\x7f",
    b"\xff\xfe",
    "\x85\u2028\u202e".encode(),
    b"\t",
]


@pytest.mark.parametrize("word", HOSTILE)
@pytest.mark.parametrize("name", [True, False], ids=["as-command", "as-argument"])
def test_newlines_and_control_characters_in_the_command_stay_in_one_clean_line(
    start: Starter, word: bytes, name: bool
) -> None:
    started = start(b"no-such-" + word) if name else start(b"true", word, word)
    assert started.wait() == (127 if name else 0)
    log = started.log_bytes().decode()
    assert all(line.isprintable() for line in log.split("\n"))
    assert len(log.split("\n")) == (4 if name else 5)
    assert len(lines(log)) == (3 if name else 4)


@pytest.mark.parametrize("count", [1, 12])
@pytest.mark.parametrize("before", ["", "x", "xx"])
def test_a_very_long_command_line_is_cut_to_one_line(start: Starter, before: str, count: int) -> None:
    started = start("true", before, *["€" * 40_000] * count)
    assert started.wait() == 0
    log = started.log_bytes().decode()  # no character is cut in two
    assert len(lines(log)) == 4
    assert max(len(line.encode()) for line in log.splitlines(keepends=True)) <= LONGEST
    assert log.splitlines()[1].endswith("...")


def test_the_log_of_many_processes_has_a_line_for_each(start: Starter) -> None:
    script = "import os\nfor i in range(500):\n    if not os.fork():\n        os._exit(i % 7)\nos._exit(3)"
    code, _, log = start.result("python3", "-S", "-c", script)
    assert code == 6
    assert len(re.findall(r"pid \d+: exited with code", log)) == 501
    assert len(lines(log, "info")) == 504


def test_the_command_s_own_stderr_is_not_touched(start: Starter) -> None:
    code, _, log = start.result("-qq", "sh", "-c", "echo one >&2; printf 'no newline' >&2")
    assert (code, log) == (0, "one\nno newline")


def test_lines_to_a_regular_file_are_appended_where_the_command_writes_too(start: Starter) -> None:
    log = start.result("sh", "-c", "echo mine >&2; exit 1")[2].splitlines()
    assert log.count("mine") == 1
    assert len(log) == 5


def test_a_line_that_is_not_permitted_to_be_sent_is_a_warning(binary: str, tmp_path: Path) -> None:
    """Without CAP_KILL, a child that has become another user cannot be signalled."""
    wrapper = Starter("setpriv", tmp_path)
    caps = ["--inh-caps=-kill", "--bounding-set=-kill"]
    change = (
        "import os, time; os.setresgid(1, 1, 1); os.setresuid(1, 1, 1); print('changed', flush=True); time.sleep(1000)"
    )
    started = wrapper(*caps, binary, "python3", "-c", change)
    started.wait_out("changed")
    started.send(signal.SIGTERM)
    started.wait_log("[warn]")
    assert "Operation not permitted" in next(iter(lines(started.log(), "warn")))
    os.kill(children(started.pid)[0], signal.SIGKILL)
    assert started.wait() == 137


def test_run_sleeps_between_events(start: Starter) -> None:
    started = start("sleep", "1000")
    started.wait_log("started")
    wait_until(lambda: state(started.pid) == "S", "run sleeps")
    started.send(signal.SIGTERM)
    started.wait()


def test_of_hundreds_of_groups_the_first_are_named_and_the_others_counted(start: Starter) -> None:
    """More than once the buffer that the list of children is read into."""
    daemons = 900
    script = f"for i in $(seq {daemons}); do (setsid sleep 1000 &); done; exec sleep 1000"
    started = start("-s", "TERM", "sh", "-c", script)
    wait_until(lambda: len({os.getpgid(child) for child in children(started.pid)}) == daemons + 1, "all are daemons")
    started.send(signal.SIGTERM)
    assert started.wait() == 143
    log = started.log()
    line = next(line for line in log.splitlines() if "forwarding TERM" in line)
    assert line.count("group ") == 20
    assert line.endswith(f" and {daemons + 1 - 20} more")
    assert log.count("killed by TERM") == daemons + 1
