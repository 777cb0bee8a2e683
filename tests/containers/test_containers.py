"""In every kind of container: the command runs, orphans are reaped, and `docker stop` ends everything by TERM."""

import os
from itertools import combinations

import pytest
from engine import Container, Containers, Process
from harness import wait_until

FEW = 20 + 4 * (os.cpu_count() or 1)
"""A limit of processes that leaves the container's runtime enough for its threads: it has some for each CPU."""

KINDS = {
    "user": ("--user", "1000:1000"),
    "read-only": ("--read-only",),
    "no-capabilities": ("--cap-drop", "ALL"),
    "no-new-privileges": ("--security-opt", "no-new-privileges"),
    "no-ipc": ("--ipc", "none"),
    "init": ("--init",),
    "host-pids": ("--pid", "host"),
    "few-pids": ("--pids-limit", f"{FEW}"),
    "little-memory": ("--memory", "24m"),
    "terminal": ("--tty",),
    "stdin": ("--interactive",),
}
SINGLE = {"default": (), **KINDS, "everything": tuple(word for options in KINDS.values() for word in options)}
PAIRS = {f"{a}+{b}": KINDS[a] + KINDS[b] for a, b in combinations(KINDS, 2)}

ORPHANS_AND_DAEMON = """
for code in 1 2 3; do (sh -c "exit $code" &); done
(setsid sleep 1000 &)
exec sleep 1000
"""


WRITABLE = ("--tmpfs", "/tmp")
NO_DIRECTORY = (
    "run: [error] cannot start: no directory to write to: "
    "looked for one in $TMPDIR, /tmp, /dev/shm, /run, /var/tmp and /; "
    "give it one, such as with --tmpfs /tmp, or use the static build, which needs none"
)


def has_writable_directory(options: tuple[str, ...]) -> bool:
    """Whether such a container of the image has one: /dev/shm for everybody, / for root."""
    return "--ipc" not in options or not {"--user", "--read-only"} & set(options)


def kinds(which: dict[str, tuple[str, ...]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("options", which.values(), ids=which)


def is_as_it_should_be(processes: list[Process]) -> bool:
    """One process is `run`, two are its children, each in a group of its own, and no other is there, zombie or not."""
    rest = [process for process in processes if process.name != "docker-init"]  # which --init brings
    sleeping = [process for process in rest if process.name == "sleep"]
    others = [process for process in rest if process.name != "sleep"]
    return (
        len(others) == 1
        and [process.parent for process in sleeping] == [others[0].pid] * 2
        and len({process.group for process in rest}) == 3
        and not any(process.state.startswith("Z") for process in processes)
    )


@kinds(SINGLE | PAIRS)
def test_orphans_are_reaped_and_docker_stop_ends_everything_by_TERM(
    options: tuple[str, ...], containers: Containers, image: str, is_bundle: bool
) -> None:
    if is_bundle and not has_writable_directory(options):
        options += WRITABLE
    container = containers(image, "sh", "-c", ORPHANS_AND_DAEMON, options=options)
    wait_until(
        lambda: is_as_it_should_be(container.processes()),
        f"run, the main command and a daemon, without a zombie; the log:\n{container.logs()}",
    )
    for code in 1, 2, 3:
        container.wait_log(f"exited with code {code}")
    assert container.stop() == 143
    assert container.logs().count("killed by") == 2


@kinds(SINGLE)
def test_output_and_exit_code_of_the_command_pass(
    options: tuple[str, ...], containers: Containers, image: str, is_bundle: bool
) -> None:
    if is_bundle and not has_writable_directory(options):
        options += WRITABLE
    container = containers(image, "-q", "sh", "-c", "echo output; exit 42", options=options)
    assert container.exit_code() == 42
    assert container.logs().split() == ["output"]


@kinds({name: options for name, options in (SINGLE | PAIRS).items() if not has_writable_directory(options)})
def test_without_any_writable_directory_the_static_build_runs_and_the_bundle_says_what_to_do(
    options: tuple[str, ...], containers: Containers, image: str, is_bundle: bool
) -> None:
    container = containers(image, "-q", "sh", "-c", "echo output; exit 42", options=options)
    expected = (125, NO_DIRECTORY) if is_bundle else (42, "output")
    assert (container.exit_code(), container.logs().strip()) == expected


def with_processes_left(
    count: int, containers: Containers, image: str, *words: str, options: tuple[str, ...] = ()
) -> Container:
    """Start a container where `run` finds so many processes that it may still make: others are there already.

    A small --pids-limit will not do: the container's runtime is bound by it too, and at times needs more itself.
    """
    limit = 30 + FEW
    fill = f"while [ $((others += 1)) -lt {limit - count} ]; do sleep 1000 & done"
    entry = ("--entrypoint", "/bin/sh", "--pids-limit", str(limit), *options)
    return containers(image, "-c", f'{fill}; exec /bin/run "$@"', "sh", *words, options=entry)


@kinds({"user": KINDS["user"], "terminal": KINDS["terminal"], "default": ()})
def test_a_refused_fork_gives_125_and_one_line(options: tuple[str, ...], containers: Containers, image: str) -> None:
    container = with_processes_left(0, containers, image, "-q", "sleep", "1000", options=options)
    assert container.exit_code() == 125
    lines = container.logs().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("run: [error] ") and "fork" in lines[0]


def test_what_is_left_is_stopped_when_the_command_ends_for_want_of_processes(
    containers: Containers, image: str
) -> None:
    container = with_processes_left(2, containers, image, "-s", "TERM", "sh", "-c", "sleep 1000 & sleep 1000; exit")
    assert container.exit_code() == 143
