"""Contract, "Log": a line for a terminal that `run` may not open anew never blocks it, and is written where it fits.

On the terminals here poll(2) says "writable" although a whole line does not fit. test_log_blocked.py has other files.
"""

import fcntl
import os
import pty
import resource
import shutil
import signal
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from bad_stderr import fill
from harness import WITHOUT_PROC, Started, Starter, children, compile_c, wait_until, waiting_for

LONG = "y" * 3500
"""A word of the command, which the line that says "started" has in it."""

ROOM = [1600, 800, 300, 100, 20, 1, 0]
"""How many bytes the terminal still takes, or a few more: its buffers are of 256 bytes."""


@dataclass(frozen=True)
class Way:
    """Why the terminal cannot be opened anew: a name, options of Popen, and words before those of `run`."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()
    prepare: Callable[[int], object] = lambda _: None
    """Is given the terminal before `run` is started."""
    limit: Callable[[], object] = lambda: None
    """Is called in the child, as the other user."""


def out_of_descriptors() -> None:
    """Leave 0, 1 and 2 alone."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


WITH_DESCRIPTORS = """
#include <sys/resource.h>
#include <unistd.h>

int main(int argc, char **argv) {
    struct rlimit limit;
    (void)argc;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    execvp(argv[1], argv + 1);
    return 127;
}
"""
"""A command that needs no descriptor itself, and executes one that may."""


def own_and_exclusive(terminal: int) -> None:
    """The other user may open it, but nobody may while it is in exclusive mode: TIOCEXCL of ioctl_tty(2)."""
    os.fchown(terminal, 65534, 65534)
    fcntl.ioctl(terminal, termios.TIOCEXCL)


OTHER_USER = {"user": 65534, "group": 65534, "extra_groups": []}
WAYS = [
    Way("another users", OTHER_USER),
    Way("without proc", prefix=WITHOUT_PROC),
    Way("out of descriptors", limit=out_of_descriptors),
    Way("exclusive", OTHER_USER, prepare=own_and_exclusive),
]


@pytest.fixture(params=WAYS, ids=lambda way: way.name.replace(" ", "_"))
def way(request: pytest.FixtureRequest) -> Way:
    """Each of the ways."""
    if request.param.name == "out of descriptors" and request.getfixturevalue("is_bundle"):
        pytest.skip("LINK=staticx: what it unpacks needs descriptors")
    found: Way = request.param
    return found


@pytest.fixture(params=[True, False], ids=["controlling", "not_controlling"])
def controlling(request: pytest.FixtureRequest) -> bool:
    """Whether the terminal on stderr controls the session that `run` leads."""
    return bool(request.param)


@contextmanager
def terminal(room: int | None = None) -> Iterator[tuple[int, int]]:
    """A terminal, both sides of it, which is empty, or takes only so many bytes more."""
    capacity = 0
    if room is not None:
        master, slave = pty.openpty()
        fill(slave)
        capacity = len(drained(master))
        os.close(master)
        os.close(slave)
    master, slave = pty.openpty()
    try:
        os.set_blocking(slave, False)
        left = capacity - (room or 0)
        while left > 0:
            left -= os.write(slave, b"x" * min(left, 256))
    except BlockingIOError:
        pass  # the buffers of this one are cut a little smaller
    os.set_blocking(slave, True)
    try:
        yield master, slave
    finally:
        os.close(slave)
        os.close(master)


def drained(master: int) -> str:
    """What can be read now."""
    os.set_blocking(master, False)
    read = b""
    try:
        while part := os.read(master, 65536):
            read += part
    except BlockingIOError:
        pass
    return read.decode().replace("\r\n", "\n")


class Shown:
    """What the terminal shows, read as it comes."""

    def __init__(self, master: int) -> None:
        """Nothing so far."""
        self._master = master
        self.text = ""

    def wait(self, text: str, ask: Callable[[], object] = lambda: None) -> None:
        """Read until it shows this; ask for it, again and again."""

        def shows() -> bool:
            ask()
            self.text += drained(self._master)
            return text in self.text

        try:
            wait_until(shows, f"{text!r} on the terminal")
        except AssertionError as error:
            raise AssertionError(f"{error}\nIt shows:\n{self.text.lstrip('x')}") from None


@pytest.fixture
def start_on(way: Way, controlling: bool, binary: str, public: Path) -> Callable[..., Started]:
    """Start `run` with this terminal as its stderr, and as its stdin where it is the controlling one."""
    shutil.copy(binary, public / "run")
    starter = Starter(way.prefix[0] if way.prefix else str(public / "run"), public)

    def start(slave: int, *words: str) -> Started:
        way.prepare(slave)

        def prepare() -> None:
            if controlling:
                fcntl.ioctl(2, termios.TIOCSCTTY, 0)
            way.limit()

        before = [*way.prefix[1:], str(public / "run")] if way.prefix else []
        if way.limit is out_of_descriptors:
            words = (str(compile_c(WITH_DESCRIPTORS, public / "with-descriptors", "-static")), *words)
        options = way.options | ({"stdin": slave} if controlling else {})
        return starter(*before, *words, stderr=slave, start_new_session=True, preexec_fn=prepare, cwd="/", **options)

    return start


ORPHANS = 'i=0; while [ $i -lt 60 ]; do (true &); i=$((i+1)); done; exec "$@"'


def started_without_room(start_on: Callable[..., Started], slave: int) -> Started:
    """Start a command that ends with 7 upon USR1, and wait until its orphans are reaped."""
    started = start_on(slave, "sh", "-c", ORPHANS, LONG, *waiting_for("USR1", 7))
    started.wait_out("ready")
    wait_until(lambda: len(children(started.pid)) == 1, "the orphans are reaped")
    return started


def test_processes_are_reaped_signals_forwarded_and_run_ends_while_a_line_does_not_fit(
    start_on: Callable[..., Started],
) -> None:
    for room in ROOM:
        with terminal(room) as (_, slave):
            started = started_without_room(start_on, slave)
            started.send(signal.SIGUSR1)
            assert started.wait() == 7


def test_once_the_terminal_is_read_again_later_lines_appear_each_on_a_line_of_its_own(
    start_on: Callable[..., Started],
) -> None:
    for room in ROOM:
        with terminal(room) as (master, slave):
            started = started_without_room(start_on, slave)
            shown = Shown(master)
            # What was written before arrives bit by bit, and as long as it does a line may not fit.
            shown.wait("\nrun: [info] forwarding USR2 (12)", partial(started.send, signal.SIGUSR2))
            started.send(signal.SIGUSR1)
            shown.wait("\nrun: [info] no process is left: exiting with code 7\n")
            assert started.wait() == 7
        # Before the first line there is what the terminal was filled with.
        assert not [line for line in shown.text.lstrip("x").splitlines() if line.count("run: [") > 1]


def test_where_the_terminal_is_read_every_line_appears(start_on: Callable[..., Started]) -> None:
    with terminal() as (master, slave):
        started = start_on(slave, "sh", "-c", "(exit 5) & (exit 6) & wait; exit 3")
        assert started.wait() == 3
        shown = Shown(master)
        shown.wait("exiting with code 3\n")
    lines = shown.text.splitlines()
    assert all(line.startswith("run: [info] ") for line in lines)
    for text in ("own pid is", "started ", "exited with code 3", "exiting with code 3"):
        assert any(text in line for line in lines), text
