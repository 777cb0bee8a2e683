"""Contract, "Output": the last words of a service that crashes, a thousand times: each once, in order, whole."""

import os
import re
import signal
from pathlib import Path

import pytest
from harness import compile_c
from serving import FOREVER, Journal, Keys, Server, pids

FAST = {"restart_delay": 0.0001, "restart_max_delay": 0.0001}

CRASH = r"""
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* crash COUNTER BYTES: say which life this is, begin a line of so many bytes, and die of a signal in its middle. */
int main(int argc, char **argv)
{
    static char text[1 << 20];
    int counter = open(argv[1], O_RDWR | O_CREAT | O_APPEND, 0666), bytes = argc > 2 ? atoi(argv[2]) : 0;
    int life = (int)lseek(counter, 0, SEEK_END) + 1;
    int signals[] = {SIGKILL, SIGSEGV, SIGABRT, SIGTERM, SIGINT};

    write(counter, "x", 1);
    int length = sprintf(text, "life %d begins\nlast words of %d ", life, life);
    memset(text + length, 'y', (size_t)bytes);
    length += bytes;
    write(1, text, (size_t)length);
    dprintf(2, "error of %d", life);
    kill(getpid(), signals[life % 5]);
    return 1;
}
"""


@pytest.fixture(scope="module")
def crash(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The program."""
    return str(compile_c(CRASH, tmp_path_factory.mktemp("crash") / "crash", "-Wno-unused-result", "-static"))


def expected(lives: int, size: int = 0) -> list[str]:
    """What it writes to stdout in so many lives."""
    words = [("y" * size)] * lives
    return [line for n, end in enumerate(words, 1) for line in (f"life {n} begins", f"last words of {n} {end}")]


def of(text: str, name: str) -> list[str]:
    """The lines of a service, long ones put together."""
    lines = re.findall(rf"^{name} +([|+]) (.*)$", text, re.MULTILINE)
    whole: list[str] = []
    for mark, line in lines:
        if mark == "|":
            whole.append(line)
        else:
            whole[-1] += line
    return whole


@pytest.mark.parametrize("pid_1", [False, True], ids=["subreaper", "pid-1"])
@pytest.mark.parametrize("size", [0, 50_000])
def test_a_thousand_times(serve: Server, crash: str, tmp_path: Path, pid_1: bool, size: int) -> None:
    """Of 50 000 bytes what is left is in the pipe when the service is gone already."""
    keys = {"command": [crash, str(tmp_path / "counter"), str(size)], "restart": "always:999", **FAST}
    started = serve({"web": keys}, "-q", pid_1=pid_1)
    started.wait()
    assert of(started.out(), "web") == expected(1000, size)
    assert of(started.log(), "web") == [f"error of {number}" for number in range(1, 1001)]


def test_ten_services_a_hundred_times_each(serve: Server, crash: str, tmp_path: Path) -> None:
    names = [f"s{number}" for number in range(10)]
    keys: Keys = {"restart": "always:99", "essential": False, **FAST}
    started = serve({name: {"command": [crash, str(tmp_path / name), "300"], **keys} for name in names}, "-q")
    started.wait()
    for name in names:
        assert of(started.out(), name) == expected(100, 300)
        assert of(started.log(), name) == [f"error of {number}" for number in range(1, 101)]


def test_in_one_file_with_the_log_they_come_before_the_end_and_that_before_the_next_life(
    serve: Server, crash: str, tmp_path: Path
) -> None:
    keys = {"command": [crash, str(tmp_path / "counter")], "restart": "always:299", **FAST}
    with (tmp_path / "both").open("ab") as both:
        serve({"web": keys}, stdout=both, stderr=both).wait()
    lines = [
        re.sub(r" \(pid \d+\)|(started|killed) .*", r"\1", n) for n in (tmp_path / "both").read_text().splitlines()
    ]
    number = 0
    lives = [line for line in lines if "web" in line and "shutdown" not in line]
    while lives:
        number += 1
        assert lives[:5] == [
            "run: [info] web: started",
            *(f"web | life {number} begins", f"web | last words of {number} ", f"web | error of {number}"),
            f"run: [{'info' if number < 300 else 'warn'}] web: killed",
        ]
        lives = lives[5:]
    assert number == 300


def test_while_a_grandchild_holds_the_pipe_and_goes_on_writing(serve: Server, crash: str, journal: Journal) -> None:
    """It is one pipe, so that what it writes may be behind unfinished words; nothing is lost, and the order is kept."""
    writer = f"{journal.note('away')}; i=0; while [ $((i += 1)) -le 2000 ]; do echo beside $i; done; {FOREVER}"
    script = f"""
        [ -s {journal.path} ] || setsid sh -c '{writer}' &
        until [ -s {journal.path} ]; do sleep 0.01; done
        exec {crash} {journal.path}-n
    """
    started = serve({"web": {"command": script, "restart": "always:199", **FAST}}, "-q")
    started.wait()
    text = started.out()
    beside = [int(number) for number in re.findall(r"beside (\d+)$", text, re.MULTILINE)]
    assert beside == list(range(1, len(beside) + 1)) and len(beside) > 100
    assert [int(number) for number in re.findall(r"life (\d+) begins$", text, re.MULTILINE)] == list(range(1, 201))
    assert [int(number) for number in re.findall(r"\| last words of (\d+) ", text)] == list(range(1, 201))


def test_a_crash_by_kill_from_outside_in_the_middle_of_a_flood(serve: Server) -> None:
    """What was read by then is numbered without a gap."""
    script = "i=0; while :; do echo $((i += 1)); done"
    started = serve({"web": {"command": script}}, "-q")
    started.wait_out("web | 1000\n")
    [pid] = [int(p) for p in Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split()]
    os.kill(pid, signal.SIGKILL)
    assert started.wait() == 137
    numbers = of(started.out(), "web")
    assert numbers[:-1] == [str(number) for number in range(1, len(numbers))]
    assert str(len(numbers)).startswith(numbers[-1])
    assert pids(started, "web") == []
