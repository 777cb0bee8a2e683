"""docker/examples/postgresql-app: whichever ends, the others are shut down cleanly; run signals no backend."""

import re

import pytest
from engine import Container, Containers, Images, docker
from examples import build, execute, first, inside, kill_inside, plan, run_log, story, wait_healthy
from harness import wait_until

CLEAN_END = "database system is shut down"
CLEAN_START = "database system was shut down at"
RECOVERY = "database system was not properly shut down"

SLEEPING = "SELECT pg_sleep(1000)"


@pytest.fixture(scope="module")
def example(images: Images, bare_image: str) -> str:
    """The image of the example."""
    return build("postgresql-app", images, bare_image)


def rows_written(container: Container) -> int:
    """The last row that the application knows to be written."""
    return int(re.findall(r"^app +\| wrote row (\d+)$", container.logs(), re.MULTILINE)[-1])


def query(container: Container, statement: str) -> str:
    """What the database answers."""
    return execute(container, "psql", "--no-align", "--tuples-only", "--command", statement).strip()


@pytest.mark.parametrize(("name", "code"), [("KILL", 137), ("INT", 0), ("TERM", 0)])
def test_when_the_application_ends_the_database_is_shut_down_cleanly(
    name: str, code: int, containers: Containers, example: str
) -> None:
    container = containers(example)
    container.wait_log("wrote row")
    kill_inside(container, name, first(container, "app").pid)
    assert container.exit_code() == code
    assert container.logs().count(CLEAN_END) == 1
    rows = rows_written(container)

    container.start_again()
    wait_until(lambda: rows_written(container) > rows, "the application writes again")
    assert int(query(container, f"SELECT count(*) FROM ticks WHERE n <= {rows}")) == rows
    assert CLEAN_START in container.logs()
    assert RECOVERY not in container.logs()
    assert container.stop() == 0


@pytest.mark.parametrize(("name", "codes"), [("KILL", {137}), ("INT", {0, 1})])
def test_when_the_database_ends_the_application_is_stopped(
    name: str, codes: set[int], containers: Containers, example: str
) -> None:
    container = containers(example)
    container.wait_log("wrote row")
    kill_inside(container, name, first(container, "postgres").pid)
    assert container.exit_code() in codes  # 1 if the application notices before it gets the signal
    assert (CLEAN_END in container.logs()) == (name == "INT")


def test_run_signals_the_postmaster_and_no_backend(containers: Containers, example: str) -> None:
    container = containers(example)
    container.wait_log("wrote row")
    docker("exec", "--detach", container.name, "psql", "--command", SLEEPING)
    active = f"SELECT count(*) FROM pg_stat_activity WHERE query = '{SLEEPING}' AND state = 'active'"
    wait_until(lambda: query(container, active) == "1", "a client that would not go by itself")
    processes = inside(container)
    postmaster = first(container, "postgres")
    leaders = [process for process in processes if process.parent == 1]
    backends = [process for process in processes if process.parent == postmaster.pid]
    assert sorted(process.name for process in leaders) == ["app", "pgbouncer", "postgres"]
    assert all(process.pid == process.group == process.session for process in leaders)
    assert len(backends) >= 5
    assert all(process.pid == process.group == process.session for process in backends)

    assert container.stop() == 0

    sent = [line for line in run_log(container) if line.startswith(("sending", "forwarding"))]
    pids = {process.name: process.pid for process in leaders}
    assert sent == [
        f"sending TERM (15) to app (pid {pids['app']})",
        f"sending INT (2) to pgbouncer (pid {pids['pgbouncer']})",
        f"sending INT (2) to postgres (pid {postmaster.pid})",
    ]
    assert "terminating connection due to administrator command" in container.logs()  # the postmaster's TERM
    assert "canceling statement" not in container.logs()  # which INT would mean to a backend
    assert container.logs().count(CLEAN_END) == 1


def test_the_application_ends_first_then_the_pool_and_the_database_last(containers: Containers, example: str) -> None:
    container = containers(example)
    container.wait_log("wrote row")
    assert container.stop() == 0
    assert story(container) == [
        'initdb: started sh -ec [ -e "$PGDATA/PG_VERSION" ] || initdb --auth=trust',
        "initdb: exited with code 0; done",
        "postgres: started postgres",
        "postgres: ready",
        "pgbouncer: started pgbouncer --quiet /etc/pgbouncer/pgbouncer.ini",
        "pgbouncer: ready",
        "app: started app",
        "shutdown, since TERM (15) has come",
        "sending TERM (15) to app",
        "app: exited with code 0; stopped",
        "sending INT (2) to pgbouncer",
        "pgbouncer: exited with code 0; stopped",
        "sending INT (2) to postgres",
        "postgres: exited with code 0; stopped",
        "no process is left: exiting with code 0",
    ]
    assert "the database is gone" not in container.logs()


def test_the_application_is_restarted_by_hand_and_the_database_stays(containers: Containers, example: str) -> None:
    container = containers(example)
    container.wait_log("wrote row")
    wait_healthy(container)
    app, postmaster = first(container, "app"), first(container, "postgres")
    execute(container, "run", "-c", "restart", "app")
    assert first(container, "app").pid != app.pid
    assert first(container, "postgres") == postmaster
    rows = rows_written(container)
    wait_until(lambda: rows_written(container) > rows, "the new one writes")
    assert container.stop() == 0


def test_the_plan_is_in_order_of_start(example: str) -> None:
    assert plan(example) == ["1. initdb", "2. postgres", "3. pgbouncer", "4. app"]
