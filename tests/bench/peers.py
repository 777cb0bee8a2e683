"""What is compared: an init is a name, and the words that come before the command that it is to start."""

import shutil
from dataclasses import dataclass


@dataclass(frozen=True)
class Peer:
    """An init as the benchmark sees it."""

    name: str
    prefix: tuple[str, ...]
    path: str = ""
    """The file whose size counts; the first word of the prefix when it is empty."""
    ends: bool = True
    """Whether it ends with its command."""
    reaps: bool = True
    """Whether it adopts orphans when it is not PID 1."""
    forwards: bool = True
    """Whether it passes signals on to the command."""

    @property
    def file(self) -> str:
        """The file whose size counts."""
        return shutil.which(self.path or self.prefix[0]) or self.path


SUPERVISORD = """
exec supervisord -c /dev/fd/3 3<<END
[supervisord]
nodaemon=true
logfile=/dev/null
logfile_maxbytes=0
pidfile=/dev/null
[program:command]
command=$*
autorestart=false
startsecs=0
END
"""
"""supervisord takes its command from a file only."""

TINI = Peer("tini", ("tini", "-s", "-g", "--"))
OTHERS = (
    Peer("dumb-init", ("dumb-init", "--"), reaps=False),
    Peer("catatonit", ("catatonit", "-g", "--")),
    Peer(
        *("supervisord", ("sh", "-c", SUPERVISORD, "supervisord")),
        path="supervisord",
        ends=False,
        reaps=False,
        forwards=False,
    ),
)
"""The packages of Debian that are named so. Others can be named on the command line."""


def installed(peer: Peer) -> bool:
    """Whether it can be started here."""
    return bool(peer.file)


def named(text: str) -> Peer:
    """A peer from the command line: NAME=WORD WORD ..., the words that start it before a command."""
    name, _, words = text.partition("=")
    return Peer(name, tuple(words.split()))
