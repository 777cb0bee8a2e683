"""One process in the model of the chaos tests, and what signals are to it: signal(7). No system call in here."""

import signal
from typing import Any, NamedTuple

RUN, OUTSIDE, KERNEL, NOBODY = -1, -2, -3, -4
"""`run` as a parent, group, session (the one that it was started in), target or sender; the other senders; nobody."""

HUP, KILL, CHLD, CONT, STOP = map(int, (signal.SIGHUP, signal.SIGKILL, signal.SIGCHLD, signal.SIGCONT, signal.SIGSTOP))
TERMINAL_STOPS = (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
STOPS = (STOP, *TERMINAL_STOPS)
HARMLESS = (CHLD, CONT, signal.SIGURG, signal.SIGWINCH)
"""The default action of these is to ignore them: signal(7)."""

FAULT_SIGNALS = tuple(getattr(signal, f"SIG{name}") for name in ("SEGV", "BUS", "FPE", "ILL", "TRAP", "SYS", "ABRT"))
NOT_FORWARDED = (*FAULT_SIGNALS, *TERMINAL_STOPS, CHLD, signal.SIGPIPE)
FIRST_REAL_TIME = 32

IGNORE, CATCH = -1, -2
"""What a puppet does upon a signal; any other number is the code with which it exits."""

UP, ZOMBIE, GONE = "up", "zombie", "gone"

Words = tuple[Any, ...]
"""A verb, and what it takes; see World.execute() and World.act()."""


class Node(NamedTuple):
    """One process. Its group and session are known by the node that has founded them."""

    parent: int
    group: int
    session: int
    state: str = UP
    stopped: bool = False
    said: bool = False
    actions: tuple[tuple[int, int], ...] = ()
    pending: tuple[tuple[int, int], ...] = ()
    orders: tuple[Words, ...] = (("up",),)
    subreaper: bool = False
    leaving: int | None = None
    code: int = 0
    got: tuple[tuple[int, int], ...] = ()

    @property
    def lives(self) -> bool:
        """Whether it is neither a zombie nor reaped."""
        return self.state == UP

    def gone(self) -> "Node":
        """The same once it is reaped: all that is left is what it has said."""
        return Node(NOBODY, NOBODY, NOBODY, GONE, said=self.said, got=self.got)

    def action(self, signum: int) -> int | None:
        """What it does upon a signal, or None for the default action."""
        return dict(self.actions).get(signum)

    def ignores(self, signum: int) -> bool:
        """Whether the signal is not even delivered."""
        action = self.action(signum)
        return signum != KILL and (action == IGNORE or (action is None and signum in HARMLESS))

    def dies_of(self, signum: int) -> bool:
        """Whether the default action ends it."""
        return signum == KILL or (self.action(signum) is None and signum not in STOPS and signum not in HARMLESS)
