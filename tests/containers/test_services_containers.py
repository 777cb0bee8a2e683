"""Contract, "Many services", in containers: of every kind, from scratch, without a shell, with users, read-only."""

import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from engine import (
    APPLETS,
    CLASSIC,
    Container,
    Containers,
    Images,
    client_for,
    docker,
    environment_for,
    remove_image,
    unique_name,
)
from harness import DEADLINE, wait_until
from serving import AWAKE, FOREVER, Services, file_of
from test_containers import KINDS, SINGLE, WRITABLE, has_writable_directory, kinds

Make = Callable[..., str]
"""Makes an image with the binary, busybox and a file of these services; its entry point starts them."""


@pytest.fixture(scope="module")
def of(images: Images, binary: str, busybox: Path) -> Iterator[Make]:
    """An image of these services."""
    made: dict[str, str] = {}

    def make(services: Services, **top: object) -> str:
        text = file_of(services, **top)
        if text not in made:
            file = Path(folder) / "services.toml"
            file.write_text(text)
            files: dict[str, Path | str] = {"bin/run": Path(binary), "bin/busybox": busybox, "etc/services.toml": file}
            made[text] = images.make(files | {f"bin/{applet}": "busybox" for applet in APPLETS})
        return made[text]

    with tempfile.TemporaryDirectory() as folder:
        yield make


FILE = ("-f", "/etc/services.toml")

ORPHANS = 'for code in 1 2 3; do (sh -c "exit $code" &); done; (setsid sleep 1000 &)'
TWO: Services = {
    "web": {"command": f"{ORPHANS}; echo up; {FOREVER}", "depends_on": ["db"]},
    "db": {"command": f"echo up; {FOREVER}"},
}


def run_lines(container: Container) -> list[str]:
    """The lines of `run` itself, without the level."""
    return re.findall(r"^run: \[\w+\] (.*?)\r?$", container.logs(), re.MULTILINE)


@kinds(SINGLE)
def test_services_run_orphans_are_reaped_and_docker_stop_ends_all(
    options: tuple[str, ...], containers: Containers, of: Make, is_bundle: bool
) -> None:
    if is_bundle and not has_writable_directory(options):
        options += WRITABLE
    container = containers(of(TWO), *FILE, options=options)
    for name in ("db ", "web"):
        wait_until(lambda name=name: re.search(rf"{name} \|(\x1b\[0m)? up", container.logs()), f"{name} is up")  # type: ignore[misc]
    for code in (1, 2, 3):
        container.wait_log(f"exited with code {code}")
    assert container.stop() == 0
    lines = run_lines(container)
    assert next(line for line in lines if line.startswith("sending TERM (15)")).startswith("sending TERM (15) to web")
    assert sum("killed by TERM (15); stopped" in line for line in lines) == 2
    assert "KILL" not in "".join(lines) and "[error]" not in container.logs()


@kinds({name: KINDS[name] for name in ("user", "read-only", "no-capabilities")})
def test_many_command_lines_without_a_shell(
    options: tuple[str, ...], containers: Containers, bare_image: str, is_bundle: bool
) -> None:
    """In an image that has nothing but `run`, which has something to say."""
    if is_bundle and not has_writable_directory(options):
        options += WRITABLE
    container = containers(bare_image, "-qm", "/bin/run -v", "/bin/run '-v'", options=options)
    assert container.exit_code() == 0
    lines = [re.sub(r"[\d.]+$", "N", line) for line in container.logs().splitlines()]
    assert sorted(lines) == ["run   | run N", "run-2 | run N"]


def test_the_end_of_a_service_ends_the_container_with_its_code(containers: Containers, of: Make) -> None:
    services = {"web": {"command": FOREVER}, "job": {"command": "sleep 0.1; exit 42"}}
    container = containers(of(services), *FILE)
    assert container.exit_code() == 42
    assert "shutdown, since job has failed" in run_lines(container)


def test_a_service_that_crashes_is_restarted_and_the_container_lives_on(containers: Containers, of: Make) -> None:
    services = {"web": {"command": "echo life; exec sleep 1000", "restart": "always", "restart_delay": 0.1}}
    container = containers(of(services), *FILE)
    for life in (1, 2, 3):
        wait_until(lambda life=life: container.logs().count("web | life") == life, f"life {life}")  # type: ignore[misc]
        pid = re.findall(r"web \(pid (\d+)\): started", container.logs())[-1]
        docker("exec", container.name, "/bin/sh", "-c", f"kill -9 {pid}")
    wait_until(lambda: container.logs().count("web | life") == 4, "the last life")
    assert container.stop() == 0


USERS: Services = {
    name: {"command": "busybox id -u; busybox id -g; echo anew >/dev/stdout", "user": user, "oneshot": True}
    for name, user in (("a", "1000:1000"), ("b", "65534"), ("c", "0:0"))
}


@kinds({"default": (), "read-only": KINDS["read-only"], "no-new-privileges": KINDS["no-new-privileges"]})
def test_services_are_users_of_their_own_where_there_is_no_passwd_and_open_dev_stdout_anew(
    options: tuple[str, ...], containers: Containers, of: Make, is_bundle: bool
) -> None:
    if is_bundle and not has_writable_directory(options):
        options += WRITABLE
    container = containers(of(USERS), "-q", *FILE, options=options)
    assert container.exit_code() == 0
    expected = {"a": ["1000", "1000"], "b": ["65534", "0"], "c": ["0", "0"]}
    lines = [f"{name} | {word}" for name, ids in expected.items() for word in (*ids, "anew")]
    assert sorted(container.logs().splitlines()) == sorted(lines)


def test_a_container_with_USER_runs_services_of_that_user_and_no_others(containers: Containers, of: Make) -> None:
    """One image serves as root and with runAsUser."""
    same = of({"a": USERS["a"]})
    for user in ("1000:1000", "0:0"):
        container = containers(same, "-q", *FILE, options=("--user", user))
        assert container.exit_code() == 0
        assert sorted(container.logs().splitlines()) == ["a | 1000", "a | 1000", "a | anew"]
    container = containers(of(USERS), *FILE, options=("--user", "1000:1000"))
    assert container.exit_code() == 125
    lines = container.logs().splitlines()
    assert [line.partition(": user: ")[0] for line in lines] == ["run: [error] b", "run: [error] c"]


@pytest.mark.parametrize("capability", ["KILL", "SETUID", "SETGID"])
def test_without_a_capability_for_other_users_nothing_is_started(
    containers: Containers, of: Make, capability: str
) -> None:
    container = containers(of(USERS), *FILE, options=("--cap-drop", capability))
    assert container.exit_code() == 125
    assert f"CAP_{capability}" in container.logs() and "started" not in container.logs()


def test_without_CAP_CHOWN_other_users_have_pipes_of_their_own_all_the_same(containers: Containers, of: Make) -> None:
    container = containers(of(USERS), "-q", *FILE, options=("--cap-drop", "CHOWN"))
    assert container.exit_code() == 0
    assert container.logs().count("anew") == 3


def test_docker_kill_passes_a_signal_on(containers: Containers, of: Make) -> None:
    script = f"trap 'echo reloaded' HUP; echo ready; {AWAKE}"
    container = containers(of({"nginx": {"command": script}, "plain": {"command": FOREVER}}), *FILE)
    container.wait_log("nginx | ready")
    container.kill("HUP")
    container.wait_log("nginx | reloaded")
    assert container.stop() == 0


def test_what_docker_exec_leaves_is_reaped_counts_for_nothing_and_goes_last(containers: Containers, of: Make) -> None:
    container = containers(of(TWO), *FILE)
    container.wait_log("exited with code 3")
    script = '(setsid sh -c "sleep 0.1; exit 201" &); (setsid sleep 2000 &); exit 0'
    docker("exec", container.name, "/bin/sh", "-c", script)
    container.wait_log("exited with code 201")
    assert "shutdown" not in container.logs()
    assert container.stop() == 0
    lines = run_lines(container)
    last = max(number for number, line in enumerate(lines) if line.endswith("; stopped"))
    others = [number for number, line in enumerate(lines) if re.match(r"sending TERM \(15\) to (group|pid)", line)]
    assert others and min(others) > last


@pytest.mark.parametrize("when", ["all wait to restart", "a service runs"])
def test_an_orphan_of_docker_exec_is_reaped_at_once(containers: Containers, of: Make, when: str) -> None:
    """Also where `run` has no child of its own: it is made PID 1's from outside."""
    waiting = {"command": "exit 1", "restart": "always", "restart_delay": 3600, "restart_max_delay": 3600}
    services = {"shaky": waiting} if when.startswith("all") else {"shaky": waiting, "web": {"command": FOREVER}}
    container = containers(of(services), *FILE)
    container.wait_log("next start in 3600 s")
    wait_until(lambda: len(container.processes()) == 1 + (when == "a service runs"), "nobody else is left")
    docker("exec", container.name, "/bin/sh", "-c", '(setsid sh -c "sleep 0.1; exit 77" &); exit 0')
    container.wait_log("exited with code 77")
    wait_until(lambda: len(container.processes()) == 1 + (when == "a service runs"), "no zombie is left")
    assert container.stop() in (0, 1)


GOOD = '[services.web]\ncommand = "/bin/sleep ${SECONDS_TO_SLEEP}"\n'
BAD = f'{GOOD}restart = "allways"\nuser = "nobody"\n'


@pytest.mark.parametrize("text", [GOOD, BAD], ids=["good", "bad"])
def test_a_plan_is_checked_when_an_image_is_built(bare_image: str, tmp_path: Path, text: str) -> None:
    """RUN ["/bin/run", "-nf", ...]: variables that are not set there are no error, and wrong words are."""
    (tmp_path / "services.toml").write_text(text)
    check = 'RUN ["/bin/run", "-nf", "/etc/services.toml"]\n'
    (tmp_path / "Dockerfile").write_text(f"FROM {bare_image}\nCOPY services.toml /etc/\n{check}")
    name = unique_name()
    words = [client_for(CLASSIC), "build", "--force-rm", "--tag", name, str(tmp_path)]
    try:
        options: dict[str, Any] = {"env": environment_for(CLASSIC), "timeout": DEADLINE}
        done = subprocess.run(words, capture_output=True, text=True, check=False, **options)
    finally:
        remove_image(name)
    shown = done.stdout + done.stderr
    if text == GOOD:
        assert done.returncode == 0
        assert "${SECONDS_TO_SLEEP} is not set" in shown and "1. web" in shown
    else:
        assert done.returncode != 0
        assert "web: restart: 'allways' is wrong" in shown and "the nearest is 'always'" in shown
        assert "web: user: unknown user 'nobody'" in shown and "non-zero code: 125" in shown


def test_stdout_and_stderr_stay_apart_and_long_lines_are_whole(containers: Containers, of: Make) -> None:
    script = "busybox head -c 40000 /dev/zero | busybox tr '\\0' x; echo; echo to err >&2"
    container = containers(of({"web": {"command": script}}), "-q", *FILE)
    assert container.exit_code() == 0
    words = ["docker", "logs", container.name]
    done = subprocess.run(words, capture_output=True, text=True, timeout=DEADLINE, check=True)
    assert done.stdout.splitlines() == ["web | " + "x" * 16384, "web + " + "x" * 16384, "web + " + "x" * 7232]
    assert done.stderr == "web | to err\n"


def test_a_restarted_container_starts_its_services_again(containers: Containers, of: Make) -> None:
    container = containers(of(TWO), *FILE)
    container.wait_log("web | up")
    assert container.stop() == 0
    container.start_again()
    wait_until(lambda: container.logs().count("web | up") == 2, "it is up again")
    assert container.stop() == 0
