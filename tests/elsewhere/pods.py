"""A pod as a box: what the API, the kubelet and containerd tell of it."""

import json
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from boxes import Box, call, must
from harness import DEADLINE, wait_until

EXIT = re.compile(r"/tasks/exit (\{.*\})")
"""An event of containerd."""


class Pod(Box):
    """A pod."""

    def __init__(self, kubectl: Sequence[str], name: str, folder: Path, container: str = "box") -> None:
        """Take its name, that of its container, and a folder for what it writes."""
        self._kubectl = list(kubectl)
        self.name = name
        self._container = container
        self._path = folder / f"{name}.log"
        self._events = folder / "ctr.log"
        wait_until(self._has_begun, f"{name} is started")
        self._id = self.look("{.status.containerStatuses[0].containerID}").rpartition("/")[2]
        self._follow()

    def look(self, what: str) -> str:
        """A part of what the API tells."""
        return must([*self._kubectl, "get", "pod", self.name, "--output", f"jsonpath={what}"])

    def _has_begun(self) -> bool:
        state = self.look("{.status.containerStatuses[0].state}")
        return "running" in state or "terminated" in state

    def log(self) -> str:
        """What it has written so far: it is followed, for what a pod has written is gone when it was deleted."""
        if self._follows.poll() is not None and not self._path.stat().st_size:
            self._follow()
        return self._path.read_text(errors="replace")

    def _follow(self) -> None:
        """Begin to read what it writes."""
        with self._path.open("wb") as file:
            words = [*self._kubectl, "logs", "--follow", self.name, "--container", self._container]
            self._follows = subprocess.Popen(words, stdout=file, stderr=subprocess.DEVNULL)

    def _wait_log(self) -> None:
        """Wait until all is read that it has written."""
        try:
            self._follows.wait(DEADLINE / 10)
        except subprocess.TimeoutExpired:
            pass

    def _codes(self) -> list[int]:
        """The exit code, if it has ended: as containerd tells: a pod that was deleted may be gone before."""
        exits = map(json.loads, EXIT.findall(self._events.read_text()))
        return [exit.get("exit_status", 0) for exit in exits if exit["container_id"] == exit["id"] == self._id]

    def running(self) -> bool:
        """Whether it has not ended."""
        return not self._codes()

    def exit_code(self) -> int:
        """The exit code, once it has ended."""
        code = wait_until(self._codes, f"{self.name} has ended")[0]
        self._wait_log()
        return code

    def execute(self, *words: str) -> tuple[int, str]:
        """Execute a command in it."""
        return call([*self._kubectl, "exec", self.name, "--container", self._container, "--", *words])

    def kill(self, name: str) -> None:
        """Send `run` a signal: from inside, since Kubernetes has no other way."""
        self.execute("kill", f"-{name}", "1")

    def ask_to_stop(self) -> None:
        """Delete it."""
        must([*self._kubectl, "delete", "pod", self.name, "--wait=false"])

    def health(self) -> str:
        """What comes of the readiness probe."""
        ready = self.look('{.status.conditions[?(@.type=="Ready")].status}')
        return {"True": "healthy", "False": "unhealthy"}.get(ready, ready)

    def remove(self) -> None:
        """Remove it."""
        self._follows.kill()
        self._follows.wait()
        call([*self._kubectl, "delete", "pod", self.name, "--grace-period=0", "--force", "--wait=false"])
