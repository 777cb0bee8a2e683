"""Notify: services that tell themselves when they are ready. Source: sd_notify(3); contract, "Ready and healthy".

Each has a socket of its own, an abstract one, so that no file is needed. Only what its own processes send counts: the
kernel says who has sent a message (SCM_CREDENTIALS of unix(7)).
"""

import os
from collections.abc import Callable

from run import children
from run.log import Log
from run.services.sockets import (
    AF_UNIX,
    SO_PASSCRED,
    SOCK_CLOEXEC,
    SOCK_DGRAM,
    SOCK_NONBLOCK,
    SOL_SOCKET,
    Socket,
)
from run.services.watch import Watch

LONGEST_MESSAGE = 4096
MOST_MESSAGES = 16
"""How many are taken before something else is looked at."""

ENTRY = b"NOTIFY_SOCKET="


class Notify:
    """The socket of one service."""

    def __init__(
        self, name: str, watch: Watch, log: Log, main: Callable[[], int], told: Callable[[bytes], None]
    ) -> None:
        """Take a name for the socket, who the main process is, and whom to tell a message. Raises OSError."""
        self._watch = watch
        self._log = log
        self._main = main
        self._told = told
        self._socket = Socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK)
        self._socket.setsockopt(SOL_SOCKET, SO_PASSCRED, 1)
        self._socket.bind(b"\0" + name.encode())
        self.entry = ENTRY + b"@" + name.encode()
        """Of the service's environment."""
        watch.add(self._socket.fileno(), self._read)

    def _read(self, fd: int) -> None:
        for _ in range(MOST_MESSAGES):
            try:
                # There is room for the credentials only: descriptors that are sent along the kernel closes.
                message, pid, _ = self._socket.receive(LONGEST_MESSAGE)
            except BlockingIOError:
                return
            except OSError as error:
                self._log.complain(f"cannot read what services tell: {error.strerror}")
                self._watch.rest(fd)
                return
            if pid > 0 and self._is_own(pid):
                self._told(message)

    def _is_own(self, pid: int) -> bool:
        """Whether a process is the service's: of the main process's session, or one that descends from it."""
        main = self._main()
        if not main or not pid:
            return False
        try:
            if main in (pid, os.getsid(pid)):
                return True
        except OSError:
            return False  # it is gone: nobody knows whose it was
        return children.descends(pid, main)
