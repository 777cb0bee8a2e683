"""What is compared: an init is a name, and the words that come before the command that it is to start."""

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
SUPERVISORD_CONF = str(FOLDER / "supervisord.conf")
REQUIREMENTS = sorted((FOLDER.parent.parent / "build").glob("requirements*.txt"))


@dataclass(frozen=True)
class Peer:
    """An init as the benchmark sees it."""

    name: str
    prefix: tuple[str, ...]
    """The file of the init, and its best options."""
    loud: tuple[str, ...] = ()
    """The same with its log turned on; empty if it has none on stderr."""
    alone: str = ""
    """A static file that a package has beside the one in the prefix."""
    package: str = ""
    """The package that it comes from: the version is shown."""
    ends: bool = True
    """Whether it ends with its command."""
    subreaper: bool = True
    """Whether it adopts orphans when it is not PID 1."""
    forwards: bool = True
    """Whether it passes signals on to the command."""
    from_file: bool = False
    """Whether it takes its command from a file, which takes it from the environment."""

    @property
    def file(self) -> str:
        """The file whose size counts."""
        return self.prefix[0]

    def words(self, *command: str) -> list[str]:
        """What starts this command."""
        return [*self.prefix] if self.from_file else [*self.prefix, *command]

    def environment(self, *command: str, copies: int = 1) -> dict[str, str]:
        """What the environment must hold for this command."""
        return {"COMMAND": " ".join(command), "COPIES": str(copies)} if self.from_file else {}


def build_of_ours(name: str, binary: str) -> Peer:
    """One of our own builds."""
    path = str(Path(binary).absolute())
    return Peer(name, (path, "-q"), loud=(path,))


def debian_peers() -> list[Peer]:
    """The packages of Debian that are installed, tini first."""
    supervisord = (_path("supervisord"), "-c", SUPERVISORD_CONF)
    peers = [
        Peer(
            *("tini", (_path("tini"), "-s", "-g", "--")),
            alone=_path("tini-static"),
            package="tini",
        ),
        Peer(
            *("dumb-init", (_path("dumb-init"), "--"), (_path("dumb-init"), "-v", "--")),
            package="dumb-init",
            subreaper=False,
        ),
        Peer("catatonit", (_path("catatonit"), "-g", "--"), package="catatonit"),
        Peer(
            *("supervisord", supervisord),
            package="supervisor",
            ends=False,
            subreaper=False,
            forwards=False,
            from_file=True,
        ),
    ]
    return [peer for peer in peers if peer.file]


def _path(program: str) -> str:
    return shutil.which(program) or ""


def is_program(path: str) -> bool:
    """Whether a file is machine code: elf(5)."""
    with open(path, "rb") as file:
        return file.read(4) == b"\x7fELF"


def versions(peers: Sequence[Peer]) -> str:
    """The versions of all peers, for a reader."""
    found = []
    for peer in peers:
        if peer.package:
            found.append(f"{peer.name} {debian_version(peer.package)}")
    pinned = pinned_versions(REQUIREMENTS)
    found += [f"{name} {pinned[name]}" for name in ("pyinstaller", "staticx")]
    return ", ".join(found)


def debian_version(package: str) -> str:
    """The version of a package that is installed."""
    words = ["dpkg-query", "--show", "--showformat=${Version}", package]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout or "(not a package)"


def pinned_versions(files: Sequence[Path]) -> dict[str, str]:
    """The versions of the packages of PyPI that these files name."""
    requirements = "".join(path.read_text() for path in files)
    return dict(re.findall(r"^([\w-]+)==(\S+)", requirements, re.MULTILINE))
