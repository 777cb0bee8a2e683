"""Probes: a service is asked whether it is well, without ever waiting: by a command, or over a socket.

Each probe is a child, or a socket that does not block; run.services.health decides when there is one, and for how long.
Source: contract, "Ready and healthy".
"""

import os
import re
from collections.abc import Callable

from run import children, start
from run.children import Delivery
from run.services.healthcheck import Healthcheck
from run.services.plan import Service
from run.services.sockets import (
    AF_INET,
    AF_INET6,
    AF_UNIX,
    MSG_NOSIGNAL,
    SO_ERROR,
    SOCK_CLOEXEC,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    SOL_SOCKET,
    Socket,
)
from run.services.users import switch
from run.services.watch import READABLE, WRITABLE, Watch
from run.signals import KILL
from run.text import printable
from run.wait_status import described, exit_code

LONGEST_OUTPUT = 2048
"""Bytes of what a command has written that are kept for the log."""

LONGEST_ANSWER = 8192
"""Bytes of an answer in which its first line has to end."""

STATUS = re.compile(rb"HTTP/[0-9.]+ +([0-9]{3})(?:[ \r]|$)")
"""The beginning of that line, with the code."""

Done = Callable[[str], None]
"""Called once a probe is over: with the reason why it has failed, or nothing."""


class Probe:
    """One probe that is under way."""

    def cancel(self) -> None:
        """End it, with all that it has left; nobody is told."""
        raise NotImplementedError


class Command(Probe):
    """A command that ends with 0 if all is well: `test`."""

    def __init__(self, service: Service, test: tuple[bytes, ...], null: int, watch: Watch, done: Done) -> None:
        """Start it, in the service's environment, as its user. Raises start.StartError and OSError."""
        self._watch = watch
        self._done = done
        self._output = bytearray()
        self._reads, writes = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            os.set_blocking(writes, True)
            watch.add(self._reads, self._read)
            self.pid = start.start(
                list(test),
                KILL,
                environment=service.environment,
                session=True,
                files=(null, writes, writes),
                directory=service.working_dir,
                umask=-1 if service.umask is None else service.umask,
                user=switch(service.identity) if service.identity else None,
            )
        except BaseException:
            watch.remove(self._reads)
            os.close(self._reads)
            raise
        finally:
            os.close(writes)

    def _read(self, fd: int) -> None:
        """Read what it writes, and keep the beginning."""
        try:
            data = os.read(fd, 1 << 16)
        except OSError:
            self._watch.rest(fd)
            return
        self._output += data[: LONGEST_OUTPUT - len(self._output)]
        if not data:
            self._watch.remove(fd)

    def ended(self, status: int) -> None:
        """It has ended, and is a zombie still: what it has left in its group is killed."""
        self._read(self._reads)
        output = bytes(self._output).strip()
        self.cancel()
        self._done("" if not exit_code(status) else described(status) + (f": {printable(output)}" if output else ""))

    def cancel(self) -> None:
        """Kill what there is of it."""
        self._watch.remove(self._reads)
        os.close(self._reads)
        Delivery(KILL).to([-self.pid, *children.of_session(self.pid)])


class Connection(Probe):
    """A connection that can be made: `tcp`, `unix`; or over which an answer comes: `http`."""

    def __init__(self, check: Healthcheck, watch: Watch, done: Done) -> None:
        """Begin to connect. Raises OSError."""
        self._watch = watch
        self._done = done
        self._check = check
        self._answer = b""
        if check.way == "unix":
            family, address = AF_UNIX, check.path
        else:
            family = AF_INET6 if ":" in check.host else AF_INET
            address = (check.host, check.port)  # type: ignore[assignment]
        self._socket = Socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK)
        try:
            self._socket.connect(address)
        except BlockingIOError as error:
            if check.way == "unix":  # its queue of connections is full
                self._socket.close()
                raise OSError(error.errno, "nobody accepts connections") from None
        except OSError:
            self._socket.close()
            raise
        watch.add(self._socket.fileno(), self._connected, WRITABLE)

    def _connected(self, fd: int) -> None:
        """The connection is made, or refused."""
        try:
            error = self._socket.getsockopt(SOL_SOCKET, SO_ERROR)
            if error:
                self._end(os.strerror(error))
            elif self._is_with_itself():
                self._end("nobody listens there")
            elif self._check.way == "http":
                self._ask(fd)
            else:
                self._end("")
        except OSError as failure:
            self._end(str(failure.strerror))

    def _is_with_itself(self) -> bool:
        """Whether the kernel has given this end the very port that was to be asked, so that both ends are this one."""
        return self._check.way != "unix" and self._socket.getsockname() == self._socket.getpeername()

    def _ask(self, fd: int) -> None:
        """Send what is asked."""
        host = f"[{self._check.host}]" if ":" in self._check.host else self._check.host
        request = b"GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: run\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        self._socket.send(request % (self._check.path, f"{host}:{self._check.port}".encode()), MSG_NOSIGNAL)
        self._watch.remove(fd)
        self._watch.add(fd, self._answered, READABLE)

    def _answered(self, fd: int) -> None:
        """A part of the answer has come: its first line tells. Source: RFC 9112, "Status Line"."""
        try:
            data = self._socket.recv(LONGEST_ANSWER)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(str(error.strerror))
            return
        self._answer += data
        line, newline, _ = self._answer.partition(b"\n")
        if not newline and data and len(self._answer) < LONGEST_ANSWER:
            return
        code = STATUS.match(line) if newline else None
        if code:
            self._end("" if code[1][:1] in b"23" else f"the answer is {printable(line.strip()[:200])}")
        else:
            self._end("the answer is no HTTP" if self._answer else "there is no answer")

    def _end(self, reason: str) -> None:
        self.cancel()
        self._done(reason)

    def cancel(self) -> None:
        """Close the connection."""
        self._watch.remove(self._socket.fileno())
        self._socket.close()


def begin(service: Service, null: int, watch: Watch, done: Done) -> Probe | str:
    """Begin to probe a service; return the probe, or the reason why even that has failed."""
    check = service.healthcheck
    assert check is not None
    try:
        if check.way == "test":
            return Command(service, check.test, null, watch, done)
        return Connection(check, watch, done)
    except start.StartError as error:
        return str(error)
    except OSError as error:
        return str(error.strerror)
