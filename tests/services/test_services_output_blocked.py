"""Contract, "Output": a reader that is slow, stuck or gone: services are slowed down, and never `run`."""

import errno
import os
import re
import signal
import termios
import time
from pathlib import Path

import pytest
from bad_stderr import fill
from harness import Started, children, state, status, wait_until
from readers import Reader, pipe, reader, stream, tcp, terminal
from serving import AWAKE, FOREVER, Journal, Server, events, wait_pid

MANY = 150_000
"""Lines of up to seven bytes: more than all pipes on the way, and what `run` keeps, hold together."""

KINDS = pytest.mark.parametrize("kind", [pipe, stream, tcp, terminal], ids=lambda made: made.__name__)

FLOOD = "i=0; while :; do echo $((i += 1)); done"
WRITER = ["sh", "-c", FLOOD.replace("$", "$$")]


def numbers(lines: list[str], name: str) -> list[int]:
    """The numbers of a service's lines, in whole lines."""
    found = [re.fullmatch(rf"(?:\x1b\[\d+m)?{name} +\|(?:\x1b\[0m)? (\d+)\r?", line) for line in lines]
    return [int(match[1]) for match in found if match]


def is_stuck(started: Started, pid: int) -> bool:
    """Whether a service sleeps in a write, and `run` sleeps, too."""
    return state(pid) == state(started.pid) == "S" and "pipe_w" in Path(f"/proc/{pid}/wchan").read_text()


def wait_stuck(started: Started, name: str) -> int:
    """Wait until a service sleeps in a write, since nobody reads."""
    pid = wait_pid(started, name)
    for _ in range(3):
        wait_until(lambda: is_stuck(started, pid), f"{name} waits for a reader")
    return pid


# -- Slow --------------------------------------------------------------------------------------------------------------


@KINDS
def test_a_slow_reader_slows_the_services_down_and_loses_nothing(
    serve: Server, tmp_path: Path, journal: Journal, kind: object
) -> None:
    """Four services write as fast as they can, and one reads 4 KiB at a time."""
    script = "i=0; while [ $((i += 1)) -le 5000 ]; do echo $i; done; exit 0"
    services = {name: {"command": script, "oneshot": True} for name in "abcd"}
    with reader(kind, tmp_path) as (out, fd):  # type: ignore[arg-type]
        out.size, out.slow = 4096, lambda: 0.002
        wait = f"until [ -s {journal.path} ]; do sleep 0.01; done"
        started = serve({**services, "last": {"command": wait}}, stdout=fd, stderr=fd)
        os.close(fd)
        out.begin()
        wait_until(lambda: len(numbers(out.lines, r"\w")) == 20_000, "all has come")
        journal.path.write_text("go")
        assert started.wait() == 0
        out.end()
    for name in services:
        assert numbers(out.lines, f"{name}   ") == list(range(1, 5001))
    others = [line for line in out.lines if "|" not in line]
    assert len(others) == 13 and all(line.startswith("run: [info] ") for line in others)


def test_the_last_line_of_the_log_is_waited_for_too(serve: Server, tmp_path: Path, journal: Journal) -> None:
    """Where services write to the same file."""
    with reader(pipe, tmp_path) as (out, fd):
        fill(fd)
        services = {"web": {"command": f"echo last words; {journal.note('ran')}; exit 3"}}
        started = serve(services, "-t3600", stdout=fd, stderr=fd)
        os.close(fd)
        journal.wait("ran")
        wait_until(lambda: not children(started.pid), "it is over but for the output")
        out.begin()
        assert started.wait() == 3
        out.end()
    lines = [line.lstrip("x") for line in out.lines]
    assert "web | last words" in lines
    assert lines[-1] == "run: [info] no process is left: exiting with code 3"


@KINDS
def test_while_nobody_reads_signals_ends_and_restarts_go_on(
    serve: Server, tmp_path: Path, journal: Journal, kind: object
) -> None:
    crash = f"{journal.note('life')}; echo crashed; exit 1"
    with reader(kind, tmp_path) as (out, fd):  # type: ignore[arg-type]
        started = serve(
            {
                "loud": {"command": WRITER},
                "shaky": {"command": crash, "restart": "always", "restart_delay": 0.01, "restart_max_delay": 0.01},
                "web": {"command": journal.told("web", journal.note("again"), by="HUP")},
                "orphans": {"command": "while :; do (/bin/true &); sleep 0.01; done", "output": "null"},
            },
            "-t1",
            stdout=fd,
        )
        journal.wait("web ready")
        wait_stuck_writer(started)
        before = journal.lines().count("life")
        for count in range(1, 4):
            started.send(signal.SIGHUP)
            journal.wait("web told", count)
        journal.wait("life", before + 20)
        wait_until(lambda: not any(state(child) == "Z" for child in children(started.pid)), "no zombie")
        started.send(signal.SIGTERM)
        assert started.wait() in (0, 1, 137)
        assert re.search(r"standard output: [1-9]\d* bytes were dropped", started.log())
        out.begin()
        os.close(fd)
        out.end()
    found = numbers(out.lines, "loud")
    assert found == list(range(1, len(found) + 1)) and len(found) > 100


def wait_stuck_writer(started: Started) -> None:
    """Wait until the service `loud` has not come on while one looks, and sleeps: a machine may stand still, too."""
    pid = wait_pid(started, "loud")

    def written() -> list[str]:
        return re.findall(r"wchar: \d+", Path(f"/proc/{pid}/io").read_text())

    def rests() -> bool:
        before = written()
        for _ in range(3):
            time.sleep(0.1)
            if written() != before or not is_stuck(started, pid):
                return False
        return True

    wait_until(rests, "the writer is stopped by nobody's reading")


@pytest.mark.parametrize("output", ["named", "plain"])
def test_memory_does_not_grow_while_services_write_and_nobody_reads(serve: Server, tmp_path: Path, output: str) -> None:
    with reader(pipe, tmp_path) as (_, fd):
        services = {name: {"command": WRITER, "output": output} for name in ("loud", "b", "c")}
        started = serve(services, "-q", "-t0.3", stdout=fd)
        wait_stuck_writer_of(started)
        size = int(status(started.pid)["RssAnon"].split()[0])
        out = Reader(os.dup(_.fd))
        out.parts = counted = Counted()
        out.begin()
        wait_until(lambda: counted.total > 20_000_000, "20 MB")
        assert int(status(started.pid)["RssAnon"].split()[0]) <= size + 1024
        started.send(signal.SIGTERM)
        started.wait()


class Counted(list[bytes]):
    """Counts bytes, and keeps none."""

    total = 0

    def append(self, part: bytes) -> None:
        """Count it."""
        self.total += len(part)


def wait_stuck_writer_of(started: Started) -> None:
    wait_until(lambda: len(children(started.pid)) == 3, "all are started")
    wait_until(lambda: all(is_stuck(started, pid) for pid in children(started.pid)), "all wait for a reader")


def test_while_stdout_is_stuck_stderr_is_not(serve: Server, tmp_path: Path, journal: Journal) -> None:
    late = f"until [ -s {journal.path} ]; do sleep 0.01; done; echo late >&2; {FOREVER}"
    with reader(pipe, tmp_path) as (_, fd):
        started = serve({"loud": {"command": WRITER}, "web": {"command": late}}, "-t0.3", stdout=fd)
        wait_stuck(started, "loud")
        journal.path.write_text("go")
        started.wait_log("web  | late\n")
        started.send(signal.SIGTERM)
        assert started.wait() == 0


def test_a_log_that_is_not_read_holds_up_nothing(serve: Server, tmp_path: Path, journal: Journal) -> None:
    """Also where more is to be said than is kept."""
    keys = {"command": f"{journal.note('life')}; exit 1", "restart": "always", "restart_delay": 0.0001}
    with reader(pipe, tmp_path) as (log, fd):
        fill(fd)
        started = serve({"shaky": {**keys, "restart_max_delay": 0.0001}}, "-t0.3", stderr=fd)
        journal.wait("life", 800)
        started.send(signal.SIGTERM)
        started.wait()
        log.begin()
        os.close(fd)
        log.end()
    lines = [line.lstrip("x") for line in log.lines]
    assert all(line.startswith("run: [") for line in lines)


def test_ctrl_s_holds_the_services_up_and_ctrl_q_lets_them_go_on(serve: Server, tmp_path: Path) -> None:
    with reader(terminal, tmp_path) as (out, fd):
        termios.tcflow(fd, termios.TCOOFF)
        out.begin()
        script = f"i=0; while [ $((i += 1)) -le {MANY} ]; do echo $i; done; {AWAKE}"
        started = serve({"loud": {"command": script}}, stdout=fd)
        wait_stuck(started, "loud")
        assert out.text == ""
        termios.tcflow(fd, termios.TCOON)
        wait_until(lambda: f"\x1b[0m {MANY}" in out.text, "all is shown")
        started.send(signal.SIGTERM)
        assert started.wait() == 0
        os.close(fd)
        out.end()
    assert numbers(out.lines, "loud") == list(range(1, MANY + 1))


# -- Stuck at the end --------------------------------------------------------------------------------------------------


@KINDS
@pytest.mark.parametrize("options", [("-t3600",), ("-t0.2",)], ids=["long", "short"])
def test_at_the_end_a_stuck_reader_is_not_waited_for_long_and_the_log_says_how_much_was_dropped(
    serve: Server, tmp_path: Path, kind: object, options: tuple[str, ...]
) -> None:
    """However long the grace is; and every byte is either read or counted."""
    with reader(kind, tmp_path) as (out, fd):  # type: ignore[arg-type]
        started = serve({"loud": {"command": WRITER, "output": "plain"}}, *options, stdout=fd)
        wait_stuck_writer(started)
        [pid] = children(started.pid)
        io = Path(f"/proc/{pid}/io").read_text()
        started.send(signal.SIGTERM)
        assert started.wait() == 0
        dropped = int(re.findall(r"standard output: (\d+) bytes were dropped, for nobody has read", started.log())[0])
        out.begin()
        os.close(fd)
        out.end()
    text = out.text.replace("\r", "")
    written = int(re.findall(r"wchar: (\d+)", io)[0])
    assert 0 < dropped <= written
    assert abs(len(text) + dropped - written) <= 8, "but for the line in which the writer was stuck"


def test_where_the_reader_goes_on_before_that_it_gets_everything(serve: Server, tmp_path: Path) -> None:
    script = f"trap 'echo last words; exit 0' TERM; i=0; while [ $((i += 1)) -le {MANY} ]; do echo $i; done; {AWAKE}"
    with reader(pipe, tmp_path) as (out, fd):
        started = serve({"loud": {"command": script}}, "-t3600", stdout=fd)
        wait_stuck(started, "loud")
        os.close(fd)
        out.begin()
        wait_until(lambda: f"| {MANY}\n" in out.text, "all was written")
        started.send(signal.SIGTERM)
        assert started.wait() == 0
        out.end()
    assert numbers(out.lines, "loud") == list(range(1, MANY + 1))
    assert out.lines[-1] == "loud | last words"


# -- Gone --------------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["nowait", "no-nowait"])
def asked(request: pytest.FixtureRequest, refuse: str) -> tuple[str, ...]:
    """What starts a `run` that can ask each write not to wait, by pwritev2(2), or none: sockets before Linux 6.4."""
    return () if request.param == "nowait" else (refuse, "pwritev2", str(errno.EOPNOTSUPP))


@pytest.mark.parametrize("kind", [pipe, stream, tcp], ids=lambda made: made.__name__)
def test_a_reader_that_has_gone_is_said_once_and_what_was_for_it_is_dropped(
    serve: Server, tmp_path: Path, journal: Journal, kind: object, asked: tuple[str, ...]
) -> None:
    keys = {"restart": "always", "restart_delay": 0.01, "restart_max_delay": 0.01}
    web = {"command": f"echo out; echo err >&2; {journal.note('life')}; exit 1", **keys}
    with reader(kind, tmp_path) as (out, fd):  # type: ignore[arg-type]
        started = serve({"web": web}, stdout=fd, prefix=asked)
        os.close(fd)
        journal.wait("life")
        os.close(out.fd)
        journal.wait("life", 20)
        started.send(signal.SIGTERM)
        assert started.wait() in (0, 1)
    said = [line for line in started.log().splitlines() if "standard output" in line]
    assert len(said) == 1 and re.search(r"(Broken pipe|reset by peer): what services write there is dropped", said[0])
    assert started.log().count("web | err\n") >= 20


def test_where_both_readers_have_gone_services_live_on(serve: Server, tmp_path: Path, journal: Journal) -> None:
    with reader(pipe, tmp_path) as (out, fd):
        services = {"web": {"command": journal.told("web", "exit 5", by="HUP")}, "loud": {"command": WRITER}}
        started = serve(services, stdout=fd, stderr=fd)
        os.close(fd)
        journal.wait("web ready")
        os.close(out.fd)
        started.send(signal.SIGHUP)
        assert started.wait() == 5


def test_a_service_does_not_notice_that_the_reader_has_gone(serve: Server, tmp_path: Path) -> None:
    """Its own pipe is read as ever: no SIGPIPE comes to it."""
    with reader(pipe, tmp_path) as (out, fd):
        script = "i=0; while [ $((i += 1)) -le 50000 ]; do echo $i; done; exit 3"
        started = serve({"web": {"command": script}}, stdout=fd)
        os.close(fd)
        os.close(out.fd)
        assert started.wait() == 3
    assert events(started, "web")[-1] == "exited with code 3; failed"
