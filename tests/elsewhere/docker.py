"""A Docker engine of our own, with gVisor's runtime beside runc: docker, gVisor, and a swarm of one node."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from boxes import USER, Box, Engine, How, MissingError, call, must
from clients import ClientBox, ClientEngine
from engine import unique_name
from harness import DEADLINE, wait_until
from manifests import stack

RUNSC = ["--platform=ptrace", "--network=none", "--ignore-cgroups"]
"""gVisor without KVM, without a network, and without cgroups, which take what is not everywhere to be had."""

STARTS = 3
"""How often an engine is started: it gives up when its containerd does not answer within seconds, on a busy machine."""


class Daemon:
    """A Docker engine in a folder of its own, without a bridge and packet filter rules: containers have no network."""

    def __init__(self) -> None:
        """Start it. Raises MissingError."""
        for name in "dockerd", "docker":
            if shutil.which(name) is None:
                raise MissingError(f"there is no {name} (Debian's package docker.io)")
        self._folder = Path(tempfile.mkdtemp(prefix="run-docker-"))
        config = self._folder / "daemon.json"
        runtimes = {"runsc": {"path": shutil.which("runsc") or "runsc", "runtimeArgs": RUNSC}}
        config.write_text(json.dumps({"runtimes": runtimes}))
        host = f"unix://{self._folder}/engine.sock"
        folders = [f"--{what}={self._folder}/{what}" for what in ("data-root", "exec-root", "pidfile")]
        self._words = ["dockerd", "--config-file", str(config), "--host", host, *folders]
        self._words += ["--bridge=none", "--iptables=false"]
        self.client = ["docker", "--host", host]
        if not any(self._answers() for _ in range(STARTS)):
            last = (self._folder / "log").read_text(errors="replace").splitlines()[-3:]
            self.stop()
            raise MissingError("dockerd does not start: " + " / ".join(last))

    def _answers(self) -> bool:
        """Whether it answers once it is started."""
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                self._words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        try:
            wait_until(lambda: self._process.poll() is not None or call([*self.client, "info"])[0] == 0, "dockerd")
        except (AssertionError, subprocess.TimeoutExpired):
            self._end()
        return self._process.poll() is None

    def _end(self) -> None:
        """End it: it stops what still runs."""
        self._process.terminate()
        try:
            self._process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        """Stop it, with what it has mounted."""
        self._end()
        mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        for mount in sorted((m for m in mounts if m.startswith(f"{self._folder}/")), reverse=True):
            call(["umount", "--lazy", mount])
        shutil.rmtree(self._folder, ignore_errors=True)


class Docker(ClientEngine):
    """Docker: what the others are compared with."""

    name = "docker"
    packages = "docker.io"
    run_options: ClassVar[tuple[str, ...]] = ("--network", "none")
    lacks: ClassVar[dict[str, str]] = {
        "a user namespace": "an engine has one for all of its containers, or none: this one has none",
    }

    def open(self, layer: bytes) -> None:
        """Start it: all that it has is in its folder."""
        daemon = Daemon()
        self._undo.callback(daemon.stop)
        self.client = daemon.client
        self.load(layer)

    def version(self) -> str:
        """The engine's version, and its runtime's."""
        runc = must(["runc", "--version"]).split()[2]
        return f"Docker {self.look('{{.Server.Version}}')}, runc {runc}"

    def look(self, what: str) -> str:
        """A version."""
        return must([*self.client, "version", "--format", what]).strip()


SUBREAPER = "which gVisor's kernel of 2022 has not"


def no_subreaper(on: Engine) -> None:
    """What that means for a service with `daemon`, and for a `run` that is not PID 1: one clear line, and 125."""
    for box in on("-qq", "-f", "/etc/daemon.toml"), on("-qq", "true", how=How(init=True)):
        assert box.exit_code() == 125, box.log()
        assert len(box.log().splitlines()) == 1, box.log()
        assert "cannot become a child subreaper: Invalid argument" in box.log(), box.log()


class SandboxedBox(ClientBox):
    """A container of gVisor: what is seen from here is gVisor's own process, not `run`."""

    def pid(self) -> int:
        """Not to be seen."""
        return 0


class GVisor(Docker):
    """gVisor as a runtime of Docker."""

    name = "gvisor"
    packages = "runsc docker.io"
    box = SandboxedBox
    examples: ClassVar[dict[str, Any]] = {"no child subreaper: one clear line": no_subreaper}
    run_options = (*Docker.run_options, "--runtime", "runsc")
    lacks: ClassVar[dict[str, str]] = {
        "a shared pid namespace": "each container is a kernel of its own: --pid container: shares nothing",
        "a user namespace": Docker.lacks["a user namespace"],
        "a daemon as a service": f"it takes a child subreaper, {SUBREAPER}",
        "its own init before run": f"where run is not PID 1 it takes a child subreaper, {SUBREAPER}",
    }

    def open(self, layer: bytes) -> None:
        """Start it."""
        if shutil.which("runsc") is None:
            raise MissingError("there is no runsc")
        super().open(layer)

    def version(self) -> str:
        """The runtime's version, and the engine's."""
        runsc = must(["runsc", "--version"]).split()[2]
        return f"gVisor {runsc} (ptrace), Docker {self.look('{{.Server.Version}}')}"


class Task(ClientBox):
    """The container of a service with one task, which is not started anew."""

    def __init__(self, client: Sequence[str], service: str) -> None:
        """Take the service's name; wait for its container."""
        super().__init__(client, "", 0)
        self._service = service
        wait_until(self._is_started, f"{service} is started")

    def _is_started(self) -> bool:
        """Whether its task has a container that was started; one that could not be is removed by the swarm."""
        label = f"label=com.docker.swarm.service.name={self._service}"
        found = must([*self._client, "ps", "--all", "--quiet", "--no-trunc", "--filter", label]).split()
        self.name = found[0] if found else ""
        code, state = call([*self._client, "inspect", "--format", "{{.State.Status}}", self.name])
        return code == 0 and state.strip() != "created"

    def ask_to_stop(self) -> None:
        """Have a new task instead, as for any change of a service; the node, a manager, is not one that may run it.

        The old one's container is left as it is, while that of a task too many, as by `scale`, is removed at once.
        """
        must([*self._client, "service", "update", "--detach", "--constraint-add", "node.role==worker", self._service])

    def remove(self) -> None:
        """Remove the service."""
        call([*self._client, "service", "rm", self._service])
        super().remove()


class Swarm(Docker):
    """A swarm of one node: each container is the task of a service."""

    name = "swarm"
    examples: ClassVar[dict[str, Any]] = {"examples/swarm": stack}
    lacks: ClassVar[dict[str, str]] = {
        "a shared pid namespace": "a service has no option for it",
        "a terminal": "nobody can be attached to a task",
        "a user namespace": Docker.lacks["a user namespace"],
    }

    def open(self, layer: bytes) -> None:
        """Start it; the port is one that nobody else has, and a node that stands still for a minute is still there."""
        super().open(layer)
        addresses = ["--advertise-addr", "127.0.0.1", "--listen-addr", "127.0.0.1:0"]
        must([*self.client, "swarm", "init", *addresses, "--dispatcher-heartbeat", "60s"])
        self._undo.callback(self._leave)

    def _leave(self) -> None:
        """Remove the one thing that a swarm has outside of the engine's folder: a network interface."""
        must([*self.client, "swarm", "leave", "--force"])
        must([*self.client, "network", "rm", "docker_gwbridge"])

    def version(self) -> str:
        """The engine's version."""
        return f"Swarm of Docker {self.look('{{.Server.Version}}')}"

    def _start(self, words: Sequence[str], how: How) -> Box:
        name = unique_name()
        options = ["--network", "host", "--no-resolve-image", "--restart-condition", "none"]
        options += ["--stop-grace-period", f"{how.grace}s"]
        if how.hardened:
            options += ["--read-only", "--user", f"{USER}:54321", "--cap-drop", "ALL"]
        if how.init:
            options.append("--init")
        image = self._probed if how.health else self.image
        must([*self.client, "service", "create", "--detach", "--quiet", "--name", name, *options, image, *words])
        return Task(self.client, name)
