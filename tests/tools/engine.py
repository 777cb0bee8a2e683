"""A real Docker engine: images made from nothing, containers that are removed again.

Whatever DOCKER_HOST says is used. Where no engine answers the tests are skipped, or fail under CI.
"""

import io
import json
import os
import shutil
import subprocess
import tarfile
import time
import uuid
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import pytest
from harness import DEADLINE, are_blocked_by_run, signal_numbers, wait_until

BUILD_SECONDS = 900.0
"""What building an image may take: packages are downloaded, and the program is compiled."""

GRACE = 600
"""Seconds after which `docker stop` sends KILL in these tests: so many that it is a failure to come near."""

PROMPT = 300.0
"""Seconds within which a container that ended by the signal is gone, on a machine that stands still meanwhile too."""

LOOKS = 5
"""How often the engine is asked, in the time of one deadline, before it counts as hanging."""

CLASSIC = "classic"
BUILDKIT = "buildkit"

KILLED = (0, 137)
"""The exit codes of a client that sends a signal in a container, whose end, if it follows, may come before its own."""

APPLETS = ("sh", "sleep", "setsid", "echo", "cat")


def unavailable(reason: str) -> NoReturn:
    """Skip the test for want of something that CI has: there it fails."""
    if os.environ.get("CI"):
        pytest.fail(f"{reason}: under CI that is a failure")
    pytest.skip(reason)


def docker(
    *words: str, client: str = "docker", seconds: float = DEADLINE, codes: Sequence[int] = (0,), **options: Any
) -> str:
    """Call the docker client; return what it printed, stderr included. Fails unless it ends with one of these codes."""
    done: subprocess.CompletedProcess[bytes] = subprocess.run(
        [client, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=seconds,
        check=False,
        **{"input": b"", **options},
    )
    text = done.stdout.decode(errors="replace")
    assert done.returncode in codes, f"docker {' '.join(words)} failed with {done.returncode}:\n{text}"
    return text


def look(*words: str) -> str:
    """Call the docker client for something that changes nothing: several times if the engine does not answer."""
    for _ in range(LOOKS - 1):
        try:
            return docker(*words, seconds=DEADLINE / LOOKS)
        except subprocess.TimeoutExpired:
            pass
    return docker(*words, seconds=DEADLINE / LOOKS)


def unique_name() -> str:
    """A name for an image or a container of this test session alone."""
    return f"run-test-{uuid.uuid4().hex[:12]}"


def layer_of(files: dict[str, Path | str]) -> bytes:
    """A tar file of an image's layer with these files, executable, and nothing else.

    A file's value is where its content comes from, or, as str, what a symbolic link of this name points to.
    """
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        for folder in sorted({str(parent) for name in files for parent in Path(name).parents} - {"."}):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        for name, source in files.items():
            entry = tarfile.TarInfo(name)
            entry.mode = 0o755
            if isinstance(source, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, source
                archive.addfile(entry)
            else:
                content = source.read_bytes()
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return layer.getvalue()


def make_image(files: dict[str, Path | str], *instructions: str) -> str:
    """Make an image of these files, as for layer_of(); its entry point is /bin/run.

    More instructions are as in a Dockerfile, such as a HEALTHCHECK.
    """
    name = unique_name()
    changes = (word for line in ('ENTRYPOINT ["/bin/run"]', *instructions) for word in ("--change", line))
    docker("import", *changes, "-", name, input=layer_of(files))
    return name


class Process(NamedTuple):
    """A process in a container, as the engine sees it."""

    pid: int
    parent: int
    group: int
    state: str
    name: str


class Container:
    """A container that was started with `docker run -d`."""

    def __init__(self, image: str, *words: str, options: Sequence[str] = ()) -> None:
        """Take the image, the words after it, and options of `docker run`; start() starts it."""
        self.name = unique_name()
        network = () if "--network" in options else ("--network", "none")
        self._run = ["run", "--detach", "--name", self.name, *network, *options, image, *words]

    def start(self) -> None:
        """Start it; it may have ended when this returns."""
        docker(*self._run)

    def inspect(self, what: str) -> Any:
        """A part of what `docker inspect` tells, such as .State.ExitCode."""
        return json.loads(look("inspect", "--format", f"{{{{json {what}}}}}", self.name))

    def logs(self) -> str:
        """What it wrote to stdout and stderr so far."""
        return look("logs", self.name)

    def wait_log(self, text: str) -> None:
        """Wait until the text is in its log."""
        wait_until(lambda: text in self.logs() or not self.inspect(".State.Running"), f"{text!r} in the log")
        assert text in self.logs(), f"ended; {text!r} is not in its log:\n{self.logs()}"

    def processes(self) -> list[Process]:
        """All its processes, zombies included."""
        lines = look("top", self.name, "-eo", "pid,ppid,pgid,stat,comm").splitlines()[1:]
        fields = [line.split(None, 4) for line in lines]
        return [Process(int(pid), int(parent), int(group), state, name) for pid, parent, group, state, name in fields]

    def _is_executed(self) -> bool:
        """Whether one of its processes is a `run` that has blocked its signals, or there is none any more.

        What is sent before is lost: to the runtime's own process, or to a program without a first instruction, for
        which the kernel drops it (signal(7)).
        """
        try:
            lines = look("top", self.name, "-eo", "pid,blocked").splitlines()[1:]
        except AssertionError:
            return not self.inspect(".State.Running")
        blocked = (int(line.split()[1].lstrip("<"), 16) for line in lines)
        return any(are_blocked_by_run(signal_numbers(mask)) for mask in blocked)

    def exit_code(self) -> int:
        """The exit code, once it has ended."""
        return int(docker("wait", self.name))

    def stop(self) -> int:
        """`docker stop`: the exit code. Fails when it took so long that it may have been docker's KILL."""
        wait_until(self._is_executed, "run is executed")
        begin = time.monotonic()
        docker("stop", "-t", str(GRACE), self.name, seconds=GRACE + DEADLINE)
        seconds = time.monotonic() - begin
        assert seconds < PROMPT, f"docker stop took {seconds:.1f} s; the log:\n{self.logs()}"
        code: int = self.inspect(".State.ExitCode")
        return code

    def kill(self, name: str) -> None:
        """`docker kill`: send it a signal by name."""
        wait_until(self._is_executed, "run is executed")
        docker("kill", "--signal", name, self.name)

    def start_again(self) -> None:
        """Start it again after its end."""
        docker("start", self.name)

    def remove(self) -> None:
        """Remove it, whatever its state; it need not exist."""
        subprocess.run(["docker", "rm", "--force", self.name], capture_output=True, timeout=DEADLINE, check=False)


class Containers:
    """Starts containers, and removes them all at the end."""

    def __init__(self) -> None:
        """Nothing is started yet."""
        self._all: list[Container] = []

    def __call__(self, image: str, *words: str, options: Sequence[str] = ()) -> Container:
        """Start a container: the image, the words after it, options of `docker run`; without --network it has none."""
        container = Container(image, *words, options=options)
        self._all.append(container)
        container.start()
        return container

    def remove_all(self) -> None:
        """Remove them all."""
        for container in self._all:
            container.remove()


class Images:
    """Makes and builds images, and removes them all at the end."""

    def __init__(self) -> None:
        """Nothing is made yet."""
        self._all: list[str] = []
        self._built: dict[tuple[str, ...], str] = {}

    def make(self, files: dict[str, Path | str], *instructions: str) -> str:
        """See make_image()."""
        self._all.append(make_image(files, *instructions))
        return self._all[-1]

    def build(self, kit: str, *words: str) -> str:
        """Call `docker build` with one of the two builders, once for the same words; return the image's name."""
        if (kit, *words) not in self._built:
            if kit == CLASSIC and "--target" not in words:
                # It keeps the first stage as an image without a name: give it one, by which it can be removed.
                self.build(kit, "--target", "builder", *words)
            name = unique_name()
            self._all.append(name)
            options = ["--network", "host", "--tag", name, *(["--force-rm"] if kit == CLASSIC else [])]
            docker("build", *options, *words, client=client_for(kit), env=environment_for(kit), seconds=BUILD_SECONDS)
            self._built[kit, *words] = name
        return self._built[kit, *words]

    def remove_all(self) -> None:
        """Remove them all, those that others are made from last."""
        for name in reversed(self._all):
            remove_image(name)


def remove_image(name: str) -> None:
    """Remove an image, which need not exist."""
    subprocess.run(["docker", "rmi", "--force", name], capture_output=True, timeout=DEADLINE, check=False)


def environment_for(kit: str) -> dict[str, str]:
    """The environment that makes a docker client use one of the two builders."""
    return {**os.environ, "DOCKER_BUILDKIT": "0" if kit == CLASSIC else "1", "BUILDKIT_PROGRESS": "plain"}


def can_build(client: str, kit: str) -> bool:
    """Whether this client can build with this builder: for BuildKit it needs a plugin from version 23 on."""
    name = unique_name()
    words = [client, "build", "--tag", name, "-"]
    trial = f"FROM scratch\nLABEL trial={name}\n".encode()
    env = environment_for(kit)
    for attempt in words, [client, "image", "inspect", name]:  # a builder may keep what it builds to itself
        done = subprocess.run(attempt, input=trial, env=env, capture_output=True, timeout=DEADLINE, check=False)
    remove_image(name)
    return done.returncode == 0


@cache
def client_for(kit: str) -> str:
    """The first docker client in PATH that can build with this builder. Skips the test if there is none."""
    for folder in os.get_exec_path():
        client = shutil.which("docker", path=folder)
        if client and can_build(client, kit):
            return client
    unavailable(f"no docker client here can build with the builder '{kit}'")


@pytest.fixture(scope="session")
def engine() -> None:
    """A Docker engine that answers; see the module's docstring where there is none."""
    if shutil.which("docker") is None:
        unavailable("there is no docker client")
    answer = subprocess.run(["docker", "info"], capture_output=True, timeout=DEADLINE, check=False)
    if answer.returncode != 0:
        unavailable(f"no Docker engine answers: {answer.stderr.decode(errors='replace').strip()}")


@pytest.fixture(scope="session")
def images(engine: None) -> Iterator[Images]:
    """Makes images; they are removed at the end of the session."""
    made = Images()
    yield made
    made.remove_all()


@pytest.fixture(scope="module", params=[CLASSIC, BUILDKIT])
def kit(request: pytest.FixtureRequest) -> Any:
    """Each of docker's two builders."""
    return request.param


@pytest.fixture
def containers(engine: None) -> Iterator[Containers]:
    """Starts containers, as many as a test likes; they are removed at its end."""
    started = Containers()
    yield started
    started.remove_all()


@pytest.fixture(scope="session")
def busybox() -> Path:
    """A static busybox."""
    found = shutil.which("busybox")
    if found is None:
        unavailable("there is no busybox (Debian's package busybox-static)")
    if b"ld-linux" in Path(found).read_bytes()[:4096]:
        unavailable(f"{found} is not static (Debian's package busybox-static is)")
    return Path(found)


@pytest.fixture(scope="session")
def image(images: Images, binary: str, busybox: Path) -> str:
    """An image that holds the binary under test, a static busybox, and nothing else: no /tmp, no /etc, no libc."""
    files: dict[str, Path | str] = {"bin/run": Path(binary), "bin/busybox": busybox}
    return images.make(files | {f"bin/{applet}": "busybox" for applet in APPLETS})


@pytest.fixture(scope="session")
def bare_image(images: Images, binary: str) -> str:
    """An image that holds nothing but /bin/run, the binary under test."""
    return images.make({"bin/run": Path(binary)})
