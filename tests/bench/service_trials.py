"""What works where with many services: each cell of the table is tried in a container, with the manager as PID 1."""

import os
import re
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from engine import unique_name
from managers import Manager, Service
from peers import is_program
from places import NOWHERE, SETPRIV, USER, Conditions, Docker, Files, Namespaces, libraries, place
from trials import AT_ONCE, BUSYBOX, WORKS, Cell, python_files

SECONDS = 20.0
"""What a trial may take; one that fails takes so long too."""

PROGRAM = "/bin/bench-trial"
APPLETS = ("sh", "cp", "find", "sed")
KNOWN_USERS = {"passwd": f"root:x:0:0::/:\napp:x:{USER}:{USER}::/:\n", "group": f"root:x:0:\napp:x:{USER}:\n"}
CODE, LINES, LINE = 7, 500, 100
"""The same as in trial.c."""

CREW = "/crew"
"""The folder of all folders of all managers."""

WRITABLE = "/tmp/crew"
COPY = f"""cp -r "$0" {WRITABLE} && find {WRITABLE} -type f | while read -r file; do
sed -i "s,$0,{WRITABLE},g" "$file"; done; exec "$@\""""
"""Starts a manager in a copy of its folder that can be written."""

Judge = Callable[[str, int | None], bool | None]
"""Whether the output, and the exit code once there is one, show that it works; None as long as they do not tell."""


def says_so(output: str, code: int | None) -> bool | None:
    """A service has said that it works."""
    return True if WORKS in output else None


def ends_with_code(output: str, code: int | None) -> bool | None:
    """The end of the service is that of the container."""
    return None if code is None else code == CODE


def has_last_words(output: str, code: int | None) -> bool | None:
    """All that the first life has written is there."""
    words = re.findall(r"last word (\d+) of (\d+)\n", output)
    first = [int(number) for number, pid in words if pid == words[0][1]]
    return True if first == list(range(LINES)) else None


def has_whole_lines(output: str, code: int | None) -> bool | None:
    """All lines are there, each from one service only."""
    lines = [line.rpartition(" ")[2] for line in output.splitlines() if re.search("[abcd]{9}", line)]
    whole = [line for line in lines if line in {letter * (LINE - 1) for letter in "abcd"}]
    if len(whole) == 4 * LINES:
        return True
    return False if sum(map(len, lines)) >= 4 * LINES * (LINE - 1) else None


def has_order(output: str, code: int | None) -> bool | None:
    """The one that depends on the other has ended before that was told to stop."""
    said = re.findall(r"(?:web|db) (?:begins|ends)", output)
    return said == ["web begins", "web ends", "db begins", "db ends"] if len(said) == 4 or code is not None else None


@dataclass(frozen=True)
class Trial:
    """What is tried: services, where, and how it shows."""

    title: str
    services: Sequence[Service]
    judge: Judge = says_so
    conditions: Conditions = field(default_factory=lambda: Conditions(tmp=False))
    root: str = "whole"
    stops: bool = False
    """Whether it is told to stop once two services are ready."""


def _one(*words: str, restart: bool = True, user: str = "", name: str = "web") -> Service:
    return Service(name, (PROGRAM, *words), restart, user)


SAYS = [_one("says")]
TRIALS = (
    Trial("from scratch: nothing else in the image", SAYS, root="alone"),
    Trial("no shell in the image", SAYS, root="shell-less"),
    Trial("read-only root, no /tmp", SAYS, conditions=Conditions(read_only=True, tmp=False)),
    Trial("not root", SAYS, conditions=Conditions(user=True, tmp=False)),
    Trial(
        "the exit code of a service that fails is the container's",
        [_one("says", name="db"), _one("fails", restart=False)],
        ends_with_code,
    ),
    Trial("last words before a crash kept", [_one("dies", restart=False)], has_last_words),
    Trial("lines of several services never mixed", [_one("talks", c, name=c) for c in "abcd"], has_whole_lines),
    Trial("/dev/stdout opened by a service of another user", [_one("opens", user="app")]),
    Trial("orphans reaped", [_one("orphan")]),
    Trial(
        "stopped in reverse order",
        [Service("db", (PROGRAM, "stops", "db")), Service("web", (PROGRAM, "stops", "web"), after="db")],
        has_order,
        stops=True,
    ),
)


@dataclass
class Stage:
    """A place with the roots that trials need, and what starts each manager in them, by trial and manager."""

    where: Docker | Namespaces
    roots: dict[str, str] = field(default_factory=dict)
    words: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    folders: dict[tuple[str, str], str] = field(default_factory=dict)

    def works(self, root: str, trial: Trial, words: Sequence[str], stop: int) -> bool:
        """Start it, and look at what comes out until that tells."""
        output, code = "", None
        end = time.monotonic() + SECONDS
        with self._started(root, trial.conditions, words) as (name, client, reader):
            while (verdict := trial.judge(output, code)) is None and code is None:
                if not select.select([reader], [], [], max(end - time.monotonic(), 0))[0]:
                    return False
                data = os.read(reader, 65536)
                output += data.decode(errors="replace")
                if trial.stops and b"ready" in data and output.count("is ready") == len(trial.services):
                    self.where.terminate(name, client, stop)
                if not data:
                    code = client.wait(SECONDS)
            return bool(verdict)

    @contextmanager
    def _started(
        self, root: str, conditions: Conditions, words: Sequence[str]
    ) -> Iterator[tuple[str, subprocess.Popen[bytes], int]]:
        name = unique_name()
        argv = [*self.where.words(root, name, conditions, {}), *words]
        reader, writer = os.pipe()
        if conditions.user:
            os.fchown(writer, USER, USER)  # as in trials.py
        client = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=writer, stderr=subprocess.DEVNULL)
        os.close(writer)
        try:
            yield name, client, reader
        finally:
            self.where.end(name, client)
            client.wait()
            os.close(reader)

    def cell(self, trial: Trial, manager: Manager) -> Cell:
        """Try it; where it does not work, whether it does when its folder can be written, or without scripts."""
        if any(service.user for service in trial.services) and not manager.has_users:
            return Cell(None, "it knows no users")
        words, folder = self.words[trial.title, manager.name], self.folders[trial.title, manager.name]
        root = self.roots[f"alone {manager.name}" if trial.root == "alone" else trial.root]
        stop = manager.signal
        if self.works(root, trial, words, stop):
            return Cell(True)
        if trial.root == "alone":
            return Cell(False, "Debian links it dynamically" if is_program(manager.program) else "it needs Python")
        if trial.root == "shell-less" and self.works(self.roots["programs"], trial, words, stop):
            return Cell(False, "it does without loggers, where each `run` is a program and no script")
        if trial.conditions.read_only or trial.conditions.user:
            moved = [word.replace(folder, WRITABLE) for word in words]
            easier = replace(trial, conditions=replace(trial.conditions, tmp=True))
            if self.works(root, easier, ["/bin/sh", "-c", COPY, folder, *moved], stop):
                return Cell(False, "it does with all that it has in a writable folder")
        return Cell(False)


def _configured(stage: Stage, managers: Sequence[Manager], folder: Path) -> Files:
    """Write what each manager needs for each trial; the files, by the paths that they have in a root."""
    files: Files = {}
    for number, trial in enumerate(TRIALS):
        for manager in managers:
            here, there = folder / f"{number}-{manager.name}", f"{CREW}/{number}-{manager.name}"
            logs = here / "logs"
            logs.mkdir(parents=True)
            key = trial.title, manager.name
            words = (manager.direct or manager.write)(here, logs, trial.services)
            stage.words[key] = [word.replace(str(here), there) for word in words]
            stage.folders[key] = there
            for path in here.rglob("*"):
                if path.is_file():
                    path.write_text(path.read_text().replace(str(here), there))
                    files[there + str(path)[len(str(here)) :]] = path
    return files


def _venv_files(venv: Path) -> Files:
    """A virtual environment, without what only installs packages."""
    files: Files = {str(venv / "pyvenv.cfg"): venv / "pyvenv.cfg"}
    for path in [*(venv / "bin").iterdir(), *(venv / "lib").rglob("*")]:
        if path.is_symlink():
            files[str(path)] = os.readlink(path)
        elif path.is_file() and not {"pip", "setuptools"} & set(path.parts):
            files[str(path)] = path
    return files | libraries([str(path) for path in (venv / "lib").rglob("*.so")])


def _installed(managers: Sequence[Manager], venv: Path) -> Files:
    """The programs of all managers, and what they need."""
    programs = [path for m in managers for path in (m.program, *(shutil.which(tool) or "" for tool in m.tools))]
    files: Files = {path: Path(path) for path in programs}
    return files | libraries([path for path in programs if is_program(path)]) | python_files() | _venv_files(venv)


def _make_roots(stage: Stage, managers: Sequence[Manager], program: str, venv: Path, folder: Path) -> None:
    for name, text in KNOWN_USERS.items():
        (folder / name).write_text(text)
    common: Files = {PROGRAM: Path(program), **{f"/etc/{name}": folder / name for name in KNOWN_USERS}}
    common |= _configured(stage, managers, folder / "crews")
    for manager in managers:
        stage.roots[f"alone {manager.name}"] = stage.where.make(common | {manager.program: Path(manager.program)})
    installed = common | _installed(managers, venv)
    stage.roots["shell-less"] = stage.where.make(installed)
    scripts = [path for path in installed if path.startswith(CREW) and path.endswith("/run")]
    own: Files = {path: Path(program) for path in scripts if not path.endswith("/log/run")}
    rest: Files = {path: source for path, source in installed.items() if path not in scripts}
    stage.roots["programs"] = stage.where.make(rest | own)
    shell: Files = {
        BUSYBOX: Path(shutil.which("busybox") or BUSYBOX),
        **{f"/bin/{name}": "busybox" for name in APPLETS},
    }
    user: Files = {SETPRIV: Path(SETPRIV), **libraries([SETPRIV])}
    stage.roots["whole"] = stage.where.make(installed | shell | user)


def try_all(
    managers: Sequence[Manager], program: str, venv: Path, folder: Path
) -> tuple[str, dict[str, dict[str, Cell]]]:
    """Where it was tried, and each trial of each manager; nothing where nothing can be tried."""
    where = place(folder)
    if where is None:
        return NOWHERE, {}
    try:
        stage = Stage(where)
        _make_roots(stage, managers, program, venv, folder)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            cells = {trial.title: [pool.submit(stage.cell, trial, m) for m in managers] for trial in TRIALS}
        return where.name, {
            title: {m.name: cell.result() for m, cell in zip(managers, row, strict=True)}
            for title, row in cells.items()
        }
    finally:
        where.remove()
