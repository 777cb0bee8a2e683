"""Contract, "When a process ends": daemons that fork twice stay up under -d, and their real end ends the container."""

from pathlib import Path

import pytest
from engine import CLASSIC, Container, Containers, Images
from examples import answers, execute, inside, kill_inside, run_log
from harness import wait_until

FOLDER = Path(__file__).parent / "daemons"

DAEMONS = {
    "dnsmasq": "dnsmasq --conf-file=/dev/null --port=5353 --no-resolv --user=root --pid-file=/run/dnsmasq.pid",
    "chronyd": "chronyd -x 'server 127.0.0.1' 'cmdport 0' 'bindcmdaddress /' 'pidfile /run/chronyd.pid'",
    "lighttpd": "lighttpd -f /etc/daemons/lighttpd.conf",
    "gunicorn": "gunicorn --daemon -b 127.0.0.1:8001 -p /run/gunicorn.pid wsgiref.simple_server:demo_app",
    "uwsgi": "uwsgi --die-on-term --socket 127.0.0.1:8002 --daemonize /tmp/uwsgi.log --pidfile /run/uwsgi.pid",
    "monit": "monit -c /etc/daemons/monit.conf",
    "tinyproxy": "tinyproxy -c /etc/daemons/tinyproxy.conf",
    "fail2ban": "fail2ban-server -b -p /run/fail2ban.pid start",
    "pgbouncer": "pgbouncer -q -d -u postgres /etc/daemons/pgbouncer.conf",
}
"""How each is started where nobody tells it to stay in the foreground. Each writes its pid into a file."""

FILES = {name: f"/run/{name}.pid" for name in DAEMONS} | {"pgbouncer": "/tmp/pgbouncer.pid"}


@pytest.fixture(scope="module")
def nine(images: Images, bare_image: str) -> str:
    """An image with all nine, and the binary under test."""
    return images.build(CLASSIC, "--build-arg", f"RUN={bare_image}", str(FOLDER))


def start(containers: Containers, image: str, names: list[str]) -> tuple[Container, dict[str, int]]:
    """Start these daemons, one after the other; return the pid of each, once they are all there is.

    Whoever else was a child of `run` by then, the shell or a step of a daemon, has ended and was reaped.
    """
    container = containers(image, "-ds", "TERM", "sh", "-ec", " && ".join(DAEMONS[name] for name in names))
    wait_until(lambda: are_alone(container, names) or "shutdown" in container.logs(), f"{names} and nobody else")
    assert "shutdown" not in container.logs(), container.logs()
    return container, pids_of(container, names)


def pids_of(container: Container, names: list[str]) -> dict[str, int]:
    """What the daemons have written into their files, as far as they have."""
    script = "; ".join(f"echo {name} $(cat {FILES[name]} 2>/dev/null)" for name in names)
    lines = [line.split() for line in execute(container, "sh", "-c", script).splitlines()]
    return {line[0]: int(line[1]) for line in lines if len(line) == 2}


def are_alone(container: Container, names: list[str]) -> bool:
    """Whether these daemons are the children of `run`, and nobody else is, a zombie neither."""
    if not answers(container, "true"):
        return False  # has ended meanwhile
    found = pids_of(container, names)
    return len(found) == len(names) and is_same(container, found)


def is_same(container: Container, pids: dict[str, int]) -> bool:
    """Whether these are the children of `run`, and nobody else is."""
    return {process.pid for process in inside(container) if process.parent == 1} == set(pids.values())


def test_nine_daemons_stay_up_and_end_by_docker_stop(containers: Containers, nine: str) -> None:
    container, pids = start(containers, nine, list(DAEMONS))
    before = run_log(container)
    # own pid, the start, the shell's end, and more that has ended with 0 while all nine stay
    assert sum("exited with code 0" in line for line in before) == len(before) - 2 > 1, before
    container.stop()
    log = run_log(container)
    assert log[len(before)].startswith("forwarding TERM (15) to "), log
    for name, pid in pids.items():
        assert any(line.startswith(f"pid {pid}: ") for line in log), name
    assert not any("KILL" in line for line in log), log


@pytest.mark.parametrize("name", DAEMONS)
def test_the_real_end_of_a_daemon_takes_the_others_with_it(name: str, containers: Containers, nine: str) -> None:
    """Beside another one, which is started after it."""
    names = list(DAEMONS)
    other = names[(names.index(name) + 1) % len(names)]
    container, pids = start(containers, nine, [name, other])
    kill_inside(container, "KILL", pids[name])
    assert container.exit_code() == 137
    log = run_log(container)
    assert f"shutdown, since pid {pids[name]} has ended" in log
    assert any(line.startswith(f"pid {pids[other]}: ") for line in log), log
