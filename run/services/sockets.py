"""Sockets: those of the C module behind `socket`.

`socket` itself makes enumerations of a hundred constants, and imports selectors and mathematics for what is not used
here: half a megabyte in the file, and 5 ms at each start of a build without the snapshot.
"""

import os
from _socket import (
    AF_INET,
    AF_INET6,
    AF_UNIX,
    CMSG_LEN,
    MSG_NOSIGNAL,
    MSG_PEEK,
    SCM_CREDENTIALS,
    SO_ERROR,
    SO_PASSCRED,
    SO_PEERCRED,
    SO_SNDTIMEO,
    SOCK_CLOEXEC,
    SOCK_DGRAM,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    SOL_SOCKET,
    inet_pton,
    socket,
)
from errno import ENOTCONN
from struct import Struct

__all__ = [
    "AF_INET",
    "AF_INET6",
    "AF_UNIX",
    "CMSG_LEN",
    "MSG_NOSIGNAL",
    "MSG_PEEK",
    "SCM_CREDENTIALS",
    "SOCK_CLOEXEC",
    "SOCK_DGRAM",
    "SOCK_NONBLOCK",
    "SOCK_STREAM",
    "SOL_SOCKET",
    "SO_ERROR",
    "SO_PASSCRED",
    "SO_PEERCRED",
    "Socket",
    "inet_pton",
]

CREDENTIALS = Struct("iII")
"""struct ucred of unix(7): pid, uid, gid."""


TIME = Struct("@ll")
"""struct timeval: seconds and microseconds."""


class Socket(socket):
    """A socket, with what socket.socket() does in Python."""

    def connect_within(self, seconds: float, address: bytes) -> None:
        """Connect to a socket of unix(7), and wait if its queue is full, but not for longer. Raises OSError.

        A socket that does not block, as one with settimeout() is none, would fail at once: connect(2), EAGAIN.
        """
        self.setsockopt(SOL_SOCKET, SO_SNDTIMEO, TIME.pack(int(seconds), 0))
        while True:
            try:
                self.connect(address)
                self.getpeername()
                break
            except BlockingIOError:
                raise TimeoutError from None
            except OSError as error:
                if error.errno != ENOTCONN:
                    raise
                # SIGSTOP and SIGCONT have ended the waiting, which CPython takes for a connection: signal(7), EINTR
        self.settimeout(seconds)

    def accept(self) -> "Socket":
        """Take the next connection. Raises OSError."""
        fd, _ = self._accept()  # type: ignore[attr-defined]
        return Socket(self.family, self.type, self.proto, fd)

    def peer(self) -> tuple[int, int]:
        """Who is at the other end: pid, 0 for one in another pid namespace, and uid: SO_PEERCRED of unix(7)."""
        pid, uid, _ = CREDENTIALS.unpack(self.getsockopt(SOL_SOCKET, SO_PEERCRED, CREDENTIALS.size))
        return pid, uid

    def introduce(self, data: bytes) -> None:
        """Send this, and who we are: SCM_CREDENTIALS of unix(7), which the kernel checks. Raises OSError."""
        credentials = CREDENTIALS.pack(os.getpid(), os.geteuid(), os.getegid())
        self.sendmsg([data], [(SOL_SOCKET, SCM_CREDENTIALS, credentials)], MSG_NOSIGNAL)

    def receive(self, most: int, flags: int = 0) -> tuple[bytes, int, int]:
        """Receive something, and who has sent it: pid and uid, both -1 where the kernel does not say. Raises OSError.

        It says so with SO_PASSCRED.
        """
        data, more, _, _ = self.recvmsg(most, CMSG_LEN(CREDENTIALS.size), flags)
        for level, kind, credentials in more:
            if (level, kind) == (SOL_SOCKET, SCM_CREDENTIALS):
                pid, uid, _ = CREDENTIALS.unpack(credentials[: CREDENTIALS.size])
                return data, pid, uid
        return data, -1, -1
