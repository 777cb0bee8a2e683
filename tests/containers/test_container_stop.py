"""Signals of the engine: none is lost, whatever the moment, and docker's KILL after the grace is never needed."""

import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from engine import Containers

ROUNDS = 24
AT_ONCE = 4

NOT_PID_1 = ("--pid", "host")
TWO_SERVICES = ("-ds", "TERM", "--", "sh", "-ec", "sleep 1000 & sleep 1000 &")


@pytest.mark.parametrize("options", [(), NOT_PID_1], ids=["pid-1", "not-pid-1"])
@pytest.mark.parametrize("words", [("sleep", "1000"), TWO_SERVICES], ids=["one-command", "two-services"])
def test_docker_stop_in_the_first_second_ends_by_TERM(
    words: tuple[str, ...], options: tuple[str, ...], containers: Containers, image: str
) -> None:
    def stopped_after(seconds: float) -> tuple[int, bool]:
        container = containers(image, *words, options=options)
        time.sleep(seconds)
        return container.stop(), "killed by" in container.logs()  # as run says of its children, not of itself

    # As many in the first moments, where run is busy starting, as in all of the second.
    moments = [random.uniform(0, 1 if i % 2 else 0.05) for i in range(ROUNDS)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        ends = dict(zip(moments, pool.map(stopped_after, moments), strict=True))
    assert set(ends.values()) == {(143, True)}, ends


@pytest.mark.parametrize("options", [(), NOT_PID_1], ids=["pid-1", "not-pid-1"])
@pytest.mark.parametrize(
    ("name", "signum"),
    [(f"{name}", signal.Signals[f"SIG{name}"]) for name in ("HUP", "INT", "QUIT", "USR1", "USR2", "ALRM", "PWR")]
    + [("RTMIN+1", signal.SIGRTMIN + 1), ("RTMAX-1", signal.SIGRTMAX - 1)],
)
def test_docker_kill_reaches_the_command(
    name: str, signum: int, options: tuple[str, ...], containers: Containers, image: str
) -> None:
    # Without waiting for the command: the contract has the signal delivered once it exists.
    container = containers(image, "sleep", "1000", options=options)
    container.kill(name)
    assert container.exit_code() == 128 + signum
    assert "killed by" in container.logs()  # as run says of its child, not of itself


def test_an_image_may_choose_its_stop_signal(containers: Containers, image: str) -> None:
    container = containers(image, "sleep", "1000", options=("--stop-signal", "RTMIN+3"))
    assert container.stop() == 128 + signal.SIGRTMIN + 3


def test_a_command_that_handles_TERM_decides_on_the_exit_code(containers: Containers, image: str) -> None:
    container = containers(image, "sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.1; done")
    container.wait_log("ready")
    assert container.stop() == 7


def test_a_service_that_ends_takes_the_container_with_it(containers: Containers, image: str) -> None:
    container = containers(image, "-ds", "TERM", "--", "sh", "-ec", "sleep 1000 & sh -c 'sleep 0.1; exit 9' &")
    assert container.exit_code() == 143
    assert "exited with code 9" in container.logs()


def test_a_service_that_ignores_TERM_is_killed_after_the_time_given(containers: Containers, image: str) -> None:
    script = "{ trap '' TERM; echo ignored; exec sleep 1000; } | read line &"  # which ends once that is read
    container = containers(image, "-ds", "TERM", "-t", "0.5", "--", "sh", "-ec", script)
    assert container.exit_code() == 137


def test_a_container_can_be_restarted(containers: Containers, image: str) -> None:
    container = containers(image, "sleep", "1000")
    assert container.stop() == 143
    container.start_again()
    assert container.stop() == 143
