"""docker/examples/nginx-gunicorn: what was answered with 201 is there, whoever was killed; each runs as its user."""

import pytest
from engine import Container, Containers, Images
from examples import build, execute, plan, story, users, wait_healthy
from killing import Killer, Writer, check_lives, check_nobody_else, lines_of, wait_well

GET = (
    "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8080); c.request('GET', '/orders');"
    "print(c.getresponse().read().decode())"
)

GUNICORN = (
    "gunicorn --bind unix:/run/app/http.sock --umask 7 --workers 2 --worker-tmp-dir /dev/shm --chdir /app app:answer"
)

CHECK = "import sqlite3 as s; print(*s.connect('/var/lib/app/orders.db').execute('PRAGMA integrity_check'))"


@pytest.fixture(scope="module")
def example(images: Images, bare_image: str) -> str:
    """The image of the example."""
    return build("nginx-gunicorn", images, bare_image)


def orders(container: Container) -> list[str]:
    """All orders, as nginx has them from gunicorn."""
    return execute(container, "python3", "-c", GET).split()


def test_no_order_is_lost_that_was_taken_whoever_is_killed(
    containers: Containers, example: str, images: Images
) -> None:
    container = containers(example)
    wait_well(container)
    writer = Writer("orders", 8080, container, containers, images)
    killer = Killer(container)
    killer.run()
    taken = writer.stop()
    wait_well(container)

    found = orders(container)
    assert len(found) == len(set(found))
    assert not set(taken) - set(found)
    check_lives(container, killer.killed)
    check_nobody_else(container)
    assert execute(container, "python3", "-c", CHECK) == "('ok',)\n"
    lines = lines_of(container, "gunicorn")
    assert not {name for name in found if lines[f"order {name}"] != 1}, "the last words of some life are not there"
    assert container.stop() == 0
    container.start_again()
    wait_well(container)
    assert sorted(orders(container)) == sorted(found)
    assert container.stop() == 0


def test_they_start_and_stop_in_order(containers: Containers, example: str) -> None:
    container = containers(example)
    wait_healthy(container)
    assert container.stop() == 0
    assert story(container) == [
        "migrate: started python3 /app/app.py",
        "migrate: exited with code 0; done",
        f"gunicorn: started {GUNICORN}",
        "gunicorn: ready",
        "nginx: started nginx -g daemon off;",
        "nginx: ready",
        "shutdown, since TERM (15) has come",
        "sending QUIT (3) to nginx",
        "nginx: exited with code 0; stopped",
        "sending TERM (15) to gunicorn",
        "gunicorn: exited with code 0; stopped",
        "no process is left: exiting with code 0",
    ]


def test_each_runs_as_its_user_and_shares_a_socket_alone(containers: Containers, example: str) -> None:
    container = containers(example)
    wait_well(container)
    assert users(container) == {("run", "root"), ("gunicorn", "app"), ("nginx", "www-data")}
    files = ("/run/app/http.sock", "/run/app", "/var/lib/app/orders.db")
    modes = execute(container, "stat", "--format", "%U:%G %a", *files)
    assert modes.splitlines() == ["app:www-data 770", "app:www-data 2750", "app:app 644"]
    assert container.stop() == 0


def test_the_plan_is_in_order_of_start(example: str) -> None:
    assert plan(example) == ["1. migrate", "2. gunicorn", "3. nginx"]
