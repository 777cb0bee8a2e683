"""systemd-nspawn, without a running systemd: a folder is the root of a container."""

import io
import os
import re
import shutil
import signal
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from boxes import Box, Engine, How, MissingError, Stopped, call, must
from engine import unique_name
from harness import DEADLINE, children

NOISE = re.compile("^(?:Trying to halt container|Attempted to remove disk file system).*\n", re.MULTILINE)
"""What nspawn itself says where its containers write to."""


class Machine(Box):
    """A container of nspawn: a process of it, and its child, which is `run`."""

    def __init__(self, words: Sequence[str], log: Path, grace: int) -> None:
        """Start it."""
        self._path = log
        self._grace = grace
        with log.open("wb") as out:
            self._process = subprocess.Popen(list(words), stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def log(self) -> str:
        """What it has written so far."""
        return NOISE.sub("", self._path.read_text(errors="replace"))

    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def pid(self) -> int:
        """The pid of `run`, once it is there."""
        return next(iter(children(self._process.pid)), 0)

    def exit_code(self) -> int:
        """The exit code, once it has ended."""
        return self._process.wait(DEADLINE)

    def execute(self, *words: str) -> tuple[int, str]:
        """Execute a command in all of its namespaces."""
        pid = self.pid()
        if not pid:
            return 1, "it has ended"
        enter = ["nsenter", "--target", f"{pid}", "--all", "--root", "--wd", "--setuid=0", "--setgid=0"]
        return call([*enter, *words])

    def kill(self, name: str) -> None:
        """Send `run` a signal, as `machinectl kill` does."""
        self._kill(signal.Signals[f"SIG{name}"])

    def _kill(self, signum: int) -> None:
        """Send `run` a signal: where it is not there, kill(2) would take 0 for the processes of this program."""
        pid = self.pid()
        assert pid, f"it has ended:\n{self.log()}"
        os.kill(pid, signum)

    def ask_to_stop(self) -> None:
        """TERM for nspawn, which tells `run`; after the grace KILL for all, as in a unit of systemd."""
        self._process.terminate()
        try:
            self._process.wait(self._grace)
        except subprocess.TimeoutExpired:
            self._kill(signal.SIGKILL)

    def remove(self) -> None:
        """Kill it."""
        if self.running():
            for pid in children(self._process.pid):
                os.kill(pid, signal.SIGKILL)
            self._process.kill()
        self._process.wait(DEADLINE)


class Nspawn(Engine):
    """systemd-nspawn."""

    name = "nspawn"
    packages = "systemd-container"
    user = 0
    killed = 1
    stopped_by_init = Stopped(0, r"(?:HUP \(1\)|TERM \(15\))")
    """Its stub of an init sends all TERM and HUP, and either may come first; it says only that it was stopped."""
    lacks: ClassVar[dict[str, str]] = {
        "its own health check": "it has none",
        "a shared pid namespace": "it has no option for it",
    }

    def open(self, layer: bytes) -> None:
        """Unpack the image."""
        if shutil.which("systemd-nspawn") is None:
            raise MissingError("there is no systemd-nspawn")
        self._folder = Path(tempfile.mkdtemp(prefix="run-nspawn-"))
        self._undo.callback(shutil.rmtree, self._folder, ignore_errors=True)
        self._folder.chmod(0o755)
        with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
            archive.extractall(self._folder / "root")
        for name in "", "usr", "dev", "proc", "sys", "run", "tmp":  # what nspawn mounts on; by usr it knows a root
            (self._folder / "root" / name).mkdir(exist_ok=True)
            (self._folder / "root" / name).chmod(0o755)

    def version(self) -> str:
        """That of systemd."""
        return f"systemd-nspawn {must(['systemd-nspawn', '--version']).split()[1]}"

    def _words(self, root: Path, how: How) -> list[str]:
        must(["cp", "--archive", "--link", str(self._folder / "root"), str(root)])
        words = ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--private-network", "--timezone=off"]
        words += [
            "--directory",
            str(root),
            "--kill-signal=SIGRTMIN+3" if how.init else "--kill-signal=SIGTERM",
            "--machine",
            root.name,
        ]
        if how.hardened:
            words += ["--read-only", "--drop-capability=all", "--no-new-privileges=yes"]
        if how.hardened or how.ids:
            words += ["--private-users=2000000:65536"]
        if how.init:
            words += ["--as-pid2"]
        return words

    def _start(self, words: Sequence[str], how: How) -> Box:
        root = self._folder / unique_name()
        options = [*self._words(root, how), "--console=pipe"]
        return Machine([*options, "/bin/run", *words], self._folder / f"{root.name}.log", how.grace)

    def terminal(self, *words: str) -> list[str]:
        """The command that starts one at a terminal."""
        return [*self._words(self._folder / unique_name(), How()), "--console=interactive", "/bin/run", *words]
