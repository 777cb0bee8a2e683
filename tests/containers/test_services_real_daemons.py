"""Contract, "The file", `daemon`: nine real daemons, which fork twice, each under a keeper of its own."""

import re
from typing import Any

import pytest
from engine import CLASSIC, GRACE, Container, Containers, Images
from examples import answers, execute, inside, kill_inside, run_log
from harness import wait_until
from serving import Line, file_of
from test_real_daemons import DAEMONS, FILES, FOLDER, pids_of

BEGIN = 'printf "%s" "$0" >/etc/services.toml; exec /bin/run -f /etc/services.toml'

NAMES = list(DAEMONS)


@pytest.fixture(scope="module")
def nine(images: Images, bare_image: str) -> str:
    """An image with all nine, and the binary under test."""
    return images.build(CLASSIC, "--build-arg", f"RUN={bare_image}", str(FOLDER))


def start(containers: Containers, image: str, names: list[str]) -> Container:
    """Start these daemons as services, each depending on the one before it; wait until all are where they belong."""
    services: dict[str, dict[str, Any]] = {}
    for name in names:
        keys = {"command": Line(DAEMONS[name]), "daemon": True, "restart": "on-failure:3", "restart_delay": 0.2}
        services[name] = {**keys, "depends_on": list(services)[-1:]}
    text = file_of(services, stop_grace_period=GRACE)
    container = containers(image, "-c", BEGIN, text, options=("--entrypoint", "/bin/sh"))
    wait_kept(container, names)
    return container


def keepers(container: Container) -> dict[str, int]:
    """The pid of each service's keeper in its last life, by the log."""
    begin = re.compile(r"(\S+) \(pid (\d+)\): started ")
    return {match[1]: int(match[2]) for line in run_log(container) if (match := begin.match(line))}


def are_kept(container: Container, names: list[str]) -> bool:
    """Whether each of these daemons is a child of its own keeper, and nobody else is a child of `run`."""
    if not answers(container, "true"):
        return False  # has ended meanwhile
    found, kept = pids_of(container, names), keepers(container)
    parents = {process.pid: process.parent for process in inside(container)}
    children = {pid for pid, parent in parents.items() if parent == 1}
    return (
        len(found) == len(kept) == len(names)
        and children == set(kept.values())
        and all(parents.get(found[name]) == kept[name] for name in names)
    )


def wait_kept(container: Container, names: list[str]) -> None:
    """Wait until each of them is where it belongs."""
    wait_until(lambda: are_kept(container, names) or "shutdown" in container.logs(), f"{names} under their keepers")
    assert "shutdown" not in container.logs(), container.logs()


def ends(container: Container) -> dict[str, int]:
    """What the last life of each service has ended with, in the order of the log."""
    end = re.compile(r"(\S+) \(pid \d+\): exited with code (\d+); (?:stopped|failed.*)$")
    return {match[1]: int(match[2]) for line in run_log(container) if (match := end.match(line))}


def stop(container: Container) -> None:
    """Stop it by `docker stop`: the exit code is the highest of all, and who has died of TERM counts for nothing.

    What a daemon exits with upon TERM is its own choice: pgbouncer's is 1, and uwsgi's 30.
    """
    code = container.stop()
    assert code == max(0 if end == 143 else end for end in ends(container).values())
    assert not any("KILL" in line for line in run_log(container)[-20:] if "sending" in line)


def test_nine_daemons_are_services_and_end_by_docker_stop(containers: Containers, nine: str) -> None:
    """In reverse order, for each depends on the one before it; nobody takes KILL."""
    container = start(containers, nine, NAMES)
    stop(container)
    assert list(ends(container)) == NAMES[::-1]
    assert "next start" not in container.logs()


@pytest.mark.parametrize("name", DAEMONS)
def test_a_daemon_that_is_killed_is_started_again_and_another_one_stays(
    name: str, containers: Containers, nine: str
) -> None:
    """The pid in its file is another one then; that of the daemon before it is the same."""
    other = NAMES[(NAMES.index(name) + 1) % len(NAMES)]
    container = start(containers, nine, [other, name])
    before = pids_of(container, [other, name])
    execute(container, "rm", "-f", FILES[name], "/run/fail2ban/fail2ban.sock")  # it does not start beside an old one
    kill_inside(container, "KILL", before[name])
    container.wait_log("next start in 0.2 s, restart 1 of 3")
    wait_until(lambda: len(re.findall(rf"{name} \(pid \d+\): started", container.logs())) == 2, "its second life")
    wait_kept(container, [other, name])
    after = pids_of(container, [other, name])
    assert after[other] == before[other] and after[name] != before[name]
    stop(container)
