"""Engines with a client in the manner of docker's, which podman's is as well: containers, and what they share."""

import re
import subprocess
from collections.abc import Sequence
from typing import ClassVar

from boxes import USER, Box, Engine, How, call, must
from engine import unique_name
from harness import DEADLINE, wait_until

ENTRY = 'ENTRYPOINT ["/bin/run"]'
PROBE = 'HEALTHCHECK --interval=1s --timeout=60s --retries=1 CMD ["/bin/run", "-c", "health"]'

HARDENED = ("--read-only", "--user", f"{USER}:54321", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")


class ClientBox(Box):
    """A container that a client looks at by its name."""

    def __init__(self, client: Sequence[str], name: str, grace: int) -> None:
        """Take the words of the client, and what is the container's."""
        self._client = client
        self._grace = grace
        self.name = name

    def look(self, what: str) -> str:
        """A part of what `inspect` tells, such as .State.Pid."""
        return must([*self._client, "inspect", "--format", f"{{{{{what}}}}}", self.name]).strip()

    def log(self) -> str:
        """What it has written so far."""
        return must([*self._client, "logs", self.name])

    def out(self) -> str:
        """What it has written to stdout: clients write what was written to stderr to theirs."""
        done = subprocess.run([*self._client, "logs", self.name], capture_output=True, timeout=DEADLINE, check=True)
        return done.stdout.decode(errors="replace")

    def running(self) -> bool:
        """Whether it has not ended."""
        return self.look(".State.Running") == "true"

    def pid(self) -> int:
        """The pid of `run`: of what the engine has started."""
        return int(self.look(".State.Pid"))

    def exit_code(self) -> int:
        """The exit code, once it has ended."""
        return int(must([*self._client, "wait", self.name]).split()[-1])

    def execute(self, *words: str) -> tuple[int, str]:
        """Execute a command in it."""
        return call([*self._client, "exec", self.name, *words])

    def kill(self, name: str) -> None:
        """Send `run` a signal."""
        must([*self._client, "kill", "--signal", name, self.name])

    def ask_to_stop(self) -> None:
        """Stop it, with the grace."""
        must([*self._client, "stop", "--time", f"{self._grace}", self.name], seconds=self._grace + 300)

    def remove(self) -> None:
        """Remove it, whatever its state; the engine may do so itself, or not have taken all of it down yet."""

        def removed() -> bool:
            code, out = call([*self._client, "rm", "--force", self.name])
            return code == 0 or bool(re.search("no such container|already in progress", out, re.IGNORECASE))

        wait_until(removed, f"{self.name} is removed", DEADLINE / 10)

    def health(self) -> str:
        """What the engine's health check says."""
        return self.look(".State.Health.Status")


class ClientEngine(Engine):
    """An engine with such a client."""

    run_options: ClassVar[tuple[str, ...]] = ()
    """Options of `run` for all containers."""
    box: ClassVar[type[ClientBox]] = ClientBox

    def __init__(self) -> None:
        """Nothing is started yet."""
        super().__init__()
        self.client: list[str] = []
        self.image = self._probed = ""

    def load(self, layer: bytes) -> None:
        """Load the image, and the same with a health check."""
        self.image = unique_name()
        must([*self.client, "import", "--change", ENTRY, "-", self.image], data=layer)
        self._probed = self.with_probe()

    def with_probe(self) -> str:
        """The same image with a health check; its name."""
        name = unique_name()
        text = f"FROM {self.image}\n{PROBE}\n"
        must([*self.client, "build", "--quiet", "--tag", name, "-"], data=text.encode())
        return name

    def options(self, how: How) -> list[str]:
        """Options of `run` for a container."""
        options = [*self.run_options, *(HARDENED if how.hardened else ())]
        if how.beside:
            assert isinstance(how.beside, ClientBox)
            options += ["--pid", f"container:{how.beside.name}"]
        if how.init:
            options.append("--init")
        return options

    def _start(self, words: Sequence[str], how: How) -> Box:
        """Start a container."""
        name = unique_name()
        box = self.box(self.client, name, how.grace)
        image = self._probed if how.health else self.image
        must([*self.client, "run", "--detach", "--name", name, *self.options(how), image, *words])
        return box

    def terminal(self, *words: str) -> list[str]:
        """The command that starts one at a terminal."""
        name = unique_name()
        self._boxes.append(self.box(self.client, name, 1))
        return [*self.client, "run", "-it", "--name", name, *self.run_options, self.image, *words]
