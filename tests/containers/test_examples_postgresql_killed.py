"""docker/examples/postgresql-app with restarts: what was committed is there, whoever is killed."""

import re

import pytest
from engine import Container, Containers, Images
from examples import answers, build, execute
from harness import wait_until
from killing import Killer, Writer, check_lives, check_nobody_else, lines_of, wait_well

RESTARTS = 'restart = "on-failure"\nrestart_max_delay = 2\n'

PORT = 6432
"""That of PgBouncer."""


@pytest.fixture(scope="module")
def example(images: Images, bare_image: str) -> str:
    """The image of the example, whose services have a life after a crash."""
    return build("postgresql-app", images, bare_image, more=RESTARTS)


def query(container: Container, statement: str) -> list[str]:
    """The lines that the database answers."""
    return execute(container, "psql", "-qAt", "-c", statement).split()


def test_no_row_is_lost_that_was_committed_whoever_is_killed(
    containers: Containers, example: str, images: Images
) -> None:
    container = containers(example)
    wait_well(container)
    query(container, "CREATE TABLE notes (name text PRIMARY KEY)")
    writer = Writer("rows", PORT, container, containers, images)
    killer = Killer(container)
    killer.run()
    written = writer.stop()
    wait_until(lambda: answers(container, "psql", "-c", ""), "the database has recovered, if a backend was killed")
    wait_well(container)

    assert not set(written) - set(query(container, "SELECT name FROM notes"))
    check_lives(container, killer.killed)
    check_nobody_else(container)
    check_rows(container)
    assert container.stop() == 0
    container.start_again()
    wait_well(container)
    assert not set(written) - set(query(container, "SELECT name FROM notes"))
    assert container.stop() == 0


def check_rows(container: Container) -> None:
    """What the application says is written is there, and for all that is there it has said before that it writes it.

    The database's own tool looks whether tables and indexes are whole.
    """
    found = set(query(container, "SELECT n FROM ticks"))
    lines = lines_of(container, "app")
    wrote = {match[1] for line in lines if (match := re.fullmatch(r"wrote row (\d+)", line))}
    writing = {match[1] for line in lines if (match := re.fullmatch(r"writing row (\d+)", line))}
    assert wrote and wrote <= set(query(container, "SELECT n FROM ticks"))
    assert found <= writing
    assert all(count == 1 for line, count in lines.items() if line.startswith(("wrote", "writing")))
    execute(container, "pg_amcheck", "--heapallindexed", "--install-missing", "postgres")
