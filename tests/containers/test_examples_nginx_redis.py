"""docker/examples/nginx-redis under load: nothing that was begun is cut off, nothing that was acknowledged is lost."""

import json
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from engine import Container, Containers, Images, docker
from examples import (
    REDIS,
    build,
    execute,
    fetch_pages,
    load_image,
    plan,
    run_log,
    steps,
    users,
    wait_for,
    wait_healthy,
    wait_ready,
    wrk,
)

PORTS = (8080, REDIS)

READERS = 4
WRITERS = 4
ORPHANS = 500

LARGE_PAGE = ("dd", "if=/dev/zero", "of=/usr/share/nginx/html/large", "bs=1M", "count=8")

COUNT_KEYS = """
local found = 0
for n = 1, ARGV[2] do found = found + (redis.call('GET', 'key:' .. ARGV[1] .. ':' .. n) == tostring(n) and 1 or 0) end
return found
"""


@pytest.fixture(scope="module")
def example(images: Images, bare_image: str) -> str:
    """The image of the example."""
    return build("nginx-redis", images, bare_image)


def wait_for_both(container: Container) -> None:
    """Wait until both answer, and the log says that they are ready."""
    wait_for(container, *PORTS)
    wait_ready(container, "nginx")


def make_orphans(container: Container) -> str:
    """Let processes become orphans and end, under a `run` of their own."""
    script = f"i=0; while [ $i -lt {ORPHANS} ]; do (true &); i=$((i + 1)); done"
    return execute(container, "/bin/run", "sh", "-c", script)


def acknowledged(writer: Container) -> list[int]:
    """How many keys each connection of the client has written."""
    counts: list[int] = json.loads(writer.logs().splitlines()[-1])
    return counts


def test_both_serve_under_load_while_orphans_come_and_go(containers: Containers, example: str, images: Images) -> None:
    container = containers(example)
    wait_for_both(container)
    before = run_log(container)
    with ThreadPoolExecutor() as pool:
        pages = pool.submit(fetch_pages, images, container, 3, 8080)
        redis = ("redis-benchmark", "-q", "-t", "set,get", "-n", "20000", "-r", "100000", "-c", "20")
        keys = pool.submit(execute, container, *redis)
        orphans = pool.submit(make_orphans, container)
    pages.result()
    assert re.search(r"SET: [1-9].*GET: [1-9]", keys.result().replace("\n", " "))
    assert orphans.result().count("exited with code 0") == ORPHANS + 1
    assert run_log(container) == before  # nothing of all this is the business of the container's `run`
    assert not [process for process in container.processes() if process.state.startswith("Z")]
    assert container.stop() == 0


def test_docker_stop_under_load_cuts_nothing_off_and_loses_no_key(
    containers: Containers, example: str, images: Images
) -> None:
    container = containers(example)
    wait_for_both(container)
    docker("exec", "--user", "root", container.name, *LARGE_PAGE)
    network = ("--network", f"container:{container.name}")
    client = ("python3", "/client.py")
    load = load_image(images)
    reader = containers(load, *client, "pages", "8080", "/large", str(READERS), options=network)
    reader.wait_log("loaded")
    writer = containers(load, *client, "keys", "6379", str(WRITERS), options=network)
    containers(load, *wrk(4, 60, 8080), options=network)
    writer.wait_log("loaded")

    assert container.stop() == 0

    assert reader.exit_code() == 0
    assert writer.exit_code() == 0
    book = json.loads(reader.logs().splitlines()[-1])
    assert book["cut"] == []
    assert book["complete"] >= READERS
    assert book["late"] > 0, "no response was under way, so nothing could have been cut off"
    container.start_again()
    wait_for_both(container)
    for connection, count in enumerate(acknowledged(writer)):
        words = ("redis-cli", "eval", COUNT_KEYS, "0", str(connection), str(count))
        assert execute(container, *words) == f"{count}\n"
    assert container.stop() == 0


def test_docker_stop_ends_nginx_first_and_then_redis(containers: Containers, example: str) -> None:
    container = containers(example)
    wait_for_both(container)
    container.wait_log("just started")
    found = re.search(r"pid=(\d+), just started", container.logs())
    assert found, container.logs()
    redis = found[1]
    assert container.stop() == 0
    log = run_log(container)
    begin = log.index("shutdown, since TERM (15) has come")
    quit_sent, nginx_ended, term_sent, redis_ended = log[begin + 1 : begin + 5]
    assert quit_sent.startswith("sending QUIT (3) to nginx (pid ")
    nginx = quit_sent.split()[-1].rstrip(")")
    assert nginx != redis
    assert nginx_ended == f"nginx (pid {nginx}): exited with code 0; stopped"
    assert term_sent == f"sending TERM (15) to redis (pid {redis})"
    assert redis_ended == f"redis (pid {redis}): exited with code 0; stopped"
    assert "DB saved on disk" in container.logs()


def test_nginx_is_started_once_redis_has_said_that_it_is_ready(containers: Containers, example: str) -> None:
    container = containers(example)
    wait_for_both(container)
    log = steps(container)
    (ready,) = (number for number, step in enumerate(log) if step.startswith("redis: ready, "))
    assert ready < log.index("nginx: started nginx -g daemon off;")
    wait_healthy(container)
    assert container.stop() == 0


def test_each_runs_as_its_user(containers: Containers, example: str) -> None:
    container = containers(example)
    wait_for_both(container)
    assert users(container) == {("run", "root"), ("redis-server", "redis"), ("nginx", "www-data")}
    assert container.stop() == 0


def test_the_plan_is_in_order_of_start(example: str) -> None:
    assert plan(example) == ["1. redis", "2. nginx"]


def test_when_redis_ends_nginx_is_stopped(containers: Containers, example: str) -> None:
    container = containers(example)
    wait_for_both(container)
    execute(container, "sh", "-c", "redis-cli shutdown nosave || true")
    assert container.exit_code() == 0
    assert "sending QUIT (3) to nginx" in container.logs()
