"""Contract, "Surroundings": too few file descriptors for all services are 125 before the start."""

import re
import resource
import signal
from itertools import count

import pytest
from harness import Started, children, wait_until
from serving import FAST, Journal, Keys, Server, Services

ONE_ERROR = re.compile(r"run: \[error\] cannot open what [^\n]+: Too many open files\n")

pytestmark = pytest.mark.static_only("the dynamic loader opens files")


def with_limit(serve: Server, services: Services, limit: int) -> Started:
    """Start them with at most so many descriptors."""
    return serve(
        services, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)), close_fds=True
    )


KINDS: dict[str, Keys] = {
    "oneshot": {"oneshot": True},
    "daemon": {"daemon": True, "essential": False},
    "inherit": {"oneshot": True, "output": "inherit"},
    "null": {"oneshot": True, "output": "null"},
    "probed": {"healthcheck": {"test": ["/bin/sleep", "0.1"], "retries": 1}, "essential": False},
}


@pytest.mark.parametrize("number", [1, 5, 20])
@pytest.mark.parametrize("kind", KINDS)
def test_either_all_is_well_to_the_end_or_nothing_was_started(serve: Server, number: int, kind: str) -> None:
    """Whatever the limit is: from the first one that is enough on, all are."""
    services = {f"s{n}": {"command": ["/bin/echo", "out"], **KINDS[kind]} for n in range(number)}
    codes: list[int] = []
    for limit in count(4):
        started = with_limit(serve, services, limit)
        codes.append(started.wait())
        if codes[-1] == 125:
            assert ONE_ERROR.fullmatch(started.log()), (limit, started.log())
        else:
            assert (codes[-1], started.log().count("): started ")) == (0, number), (limit, started.log())
            assert "[warn]" not in started.log() and "[error]" not in started.log()
            assert started.out().count("out\n") == (0 if kind == "null" else number)
        if codes[-8:] == [0] * 8:
            break
    assert codes == sorted(codes, reverse=True) and codes[0] == 125


def test_where_it_is_just_enough_signals_restarts_and_the_stop_work(
    serve: Server, catcher: str, journal: Journal
) -> None:
    """All of which reads files of /proc."""
    services: Services = {
        "a": {"command": [catcher, "a"]},
        "shaky": {"command": f"{journal.note('life')}; exit 1", "restart": "always", **FAST},
        "leaves": {"command": "(setsid sleep 1000 &); exec sleep 1000"},
        "daemon": {"command": "sleep 1000 & exit 0", "daemon": True},
    }
    for limit in count(4):
        started = with_limit(serve, services, limit)
        wait_until(lambda s=started: s.process.poll() is not None or "a ready" in s.out(), "it has begun, or has ended")  # type: ignore[misc]
        if started.process.poll() is None:
            break
        assert started.wait() == 125
    started.send(signal.SIGHUP)
    started.wait_out("a got 1 ")
    journal.wait("life", 10)
    wait_until(lambda: len(children(started.pid)) >= 4, "the orphan is there")
    started.send(signal.SIGTERM)
    started.wait()
    assert children(started.pid) == [] and "cannot" not in started.log()
