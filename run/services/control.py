"""Control: answers `run -c` over an abstract socket, without ever waiting for a client.

A request is one line of JSON; the answer is lines of JSON: that it was accepted, what was asked for, and the end.
Source: contract, "Control".
"""

import errno
import json
import os
import time
from collections.abc import Callable
from typing import Any

from run import _kernel, children
from run.log import Log
from run.services import orders, place, status
from run.services.checks import Checks
from run.services.manager import Manager
from run.services.orders import LONGEST_REQUEST, QUESTIONS, WANTED, Order, Request, RequestError
from run.services.sockets import (
    AF_UNIX,
    MSG_NOSIGNAL,
    SO_PASSCRED,
    SOCK_CLOEXEC,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    SOL_SOCKET,
    Socket,
)
from run.services.watch import WRITABLE, Watch
from run.signals import describe

MOST_CLIENTS = 32
"""How many are served at the same time; when more come, the oldest of those who have said nothing yet has to go."""
MOST_ACCEPTED = 16
"""How many connections are accepted before something else is looked at."""

PATIENCE = 10.0
"""Seconds that a client has to say what it wants, and to take the answer."""

LISTEN_SOON = 0.02
LISTEN_AGAIN = 1.0
"""Seconds after which a place that was taken is tried again, first soon: it may be of one who ends just now."""
MOST_TRIES = 10

TOO_MANY = "too many wait for what they have ordered: what was ordered is done all the same"

Signal = Callable[[str, int], str]
"""Sends a service's main process a signal; returns why that failed, or nothing."""


class Client:
    """One connection."""

    def __init__(self, connection: Socket, who: str, now: float) -> None:
        """Take a connection that was accepted, and who is at its other end; nothing if that is not known yet."""
        self.socket = connection
        self.who = who
        self.until: float | None = now + PATIENCE
        self.request = b""
        self.answer = b""
        self.order: Order | None = None
        self.is_heard = False
        """Whether its request is complete."""
        self.is_last = False
        """Whether the answer is complete."""


class Control:
    """The socket, and all who are connected to it."""

    def __init__(self, manager: Manager, checks: Checks, watch: Watch, log: Log, signal: Signal) -> None:
        """Listen at the place of this process, or warn that its name is taken, and try again in a while."""
        self._manager = manager
        self._checks = checks
        self._watch = watch
        self._log = log
        self._signal = signal
        self._uids = {0, os.geteuid()}
        self._clients: dict[int, Client] = {}
        self._socket: Socket
        self._listen_at: float | None = None
        """When to try again to listen, where that has failed."""
        self._tries = 0
        self._listen(_kernel.monotonic())

    def _listen(self, now: float) -> None:
        """Listen, or see to it that it is tried again: services run without it, too.

        A `run` that dies lets go of its mount namespace, whose number goes to the next one, before its sockets are
        closed; where both share a network namespace the place is taken for that long, which is no time: so a taken
        place is a warning when it is so a moment later, too. Source: do_exit() of Linux.
        """
        is_first = self._listen_at is None
        self._listen_at = None
        try:
            self._socket = self._open()
        except OSError as error:
            if is_first and error.errno == errno.EADDRINUSE:
                self._listen_at = now + LISTEN_SOON
                return
            if not self._tries:
                self._log.warn(f"cannot listen at @{place.own()}: {error.strerror}: 'run -c' will not work")
            self._tries += 1
            if self._tries <= MOST_TRIES:
                self._listen_at = now + LISTEN_AGAIN
            return
        if self._tries:
            self._log.info(f"listening at @{place.own()}: 'run -c' works now")

    def _open(self) -> Socket:
        """The socket at the place of this process. Raises OSError."""
        listening = Socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK)
        try:
            listening.bind(b"\0" + place.own().encode())
            listening.listen(MOST_CLIENTS)
            self._watch.add(listening.fileno(), self._accept)
        except OSError:
            listening.close()
            raise
        return listening

    def act(self, now: float) -> None:
        """Answer whose order is done, let those go whose time is over, and listen, where that has failed."""
        if self._listen_at is not None and now >= self._listen_at:
            self._listen(now)
        for client in list(self._clients.values()):
            if client.order:
                reasons = client.order.outcome(self._manager.is_stopping)
                if reasons is not None:
                    client.order = None
                    self._end(client, 1 if reasons else 0, reasons)
            elif client.until is not None and now >= client.until:
                self._close(client)

    def next_time(self) -> float | None:
        """When somebody's time is over, if it ever is, or it is tried again to listen."""
        times = [client.until for client in self._clients.values() if not client.order]
        times.append(self._listen_at)
        return min((time for time in times if time is not None), default=None)

    def _accept(self, fd: int) -> None:
        for _ in range(MOST_ACCEPTED):
            try:
                connection = self._socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                self._log.complain(f"cannot accept a connection of 'run -c': {error.strerror}")
                self._make_room()
                self._watch.rest(fd)
                return
            try:
                self._welcome(connection)
            except OSError as error:
                self._complain(error)
                connection.close()

    def _welcome(self, connection: Socket) -> None:
        """Wait for what a client wants, if it may want anything. Raises OSError."""
        connection.setblocking(False)
        pid, uid = connection.peer()
        who = f"pid {pid}, uid {uid}"
        if pid == os.getpid():
            who = ""  # gVisor tells who asks, and not who is at the other end: that one has to introduce itself
            connection.setsockopt(SOL_SOCKET, SO_PASSCRED, 1)
        elif not self._may_ask(pid, uid):
            connection.close()
            return
        if len(self._clients) >= MOST_CLIENTS:
            self._make_room()
        self._watch.add(connection.fileno(), self._readable)
        self._clients[connection.fileno()] = Client(connection, who, _kernel.monotonic())

    def _may_ask(self, pid: int, uid: int) -> bool:
        return uid in self._uids and children.is_in_own_namespace(pid)

    def _make_room(self) -> None:
        """Let one go: the oldest that has said nothing, or else the oldest."""
        clients = list(self._clients.values())
        for client in [client for client in clients if not client.is_heard] or clients[:1]:
            if client.order:
                client.order = None
                self._end(client, 1, [TOO_MANY])
            self._close(client)
            return

    def _close(self, client: Client) -> None:
        fd = client.socket.fileno()
        if self._clients.pop(fd, None):
            self._watch.remove(fd)
            client.socket.close()

    def _lost(self, client: Client, error: OSError) -> None:
        """A connection has failed: that its other end is gone need not be said."""
        if not isinstance(error, (BrokenPipeError, ConnectionResetError)):
            self._complain(error)
        self._close(client)

    def _complain(self, error: OSError) -> None:
        self._log.complain(f"cannot serve a connection of 'run -c': {error.strerror}")

    def _readable(self, fd: int) -> None:
        client = self._clients[fd]
        try:
            if client.who:
                data = client.socket.recv(LONGEST_REQUEST)
            else:
                data, pid, uid = client.socket.receive(LONGEST_REQUEST)
                if not self._may_ask(max(pid, 0), uid):
                    self._close(client)
                    return
                client.who = f"pid {pid}, uid {uid}"
        except BlockingIOError:
            return
        except OSError as error:
            self._lost(client, error)
            return
        if client.is_heard:
            # It has nothing more to say: it has gone, or it does not keep to the rules.
            self._close(client)
            return
        client.request += data
        line, newline, _ = client.request.partition(b"\n")
        if len(line) > LONGEST_REQUEST or not (newline or data):
            self._close(client)
        elif newline:
            client.is_heard = True
            client.request = b""
            self._serve(client, line)

    def _serve(self, client: Client, line: bytes) -> None:
        """Do what a request wants."""
        try:
            request = orders.read(line)
        except RequestError as error:
            self._end(client, 1, [str(error)])
            return
        refused = orders.refusals(request, self._manager.lives, self._manager.is_stopping)
        if refused:
            self._end(client, 1, refused)
            return
        if request.action in QUESTIONS:
            self._answer(client, request)
            return
        what = f"signal {describe(request.signum)}" if request.signum else request.action
        self._log.info(f"order from {client.who}: {what} {' '.join(request.names)}")
        if request.action in WANTED:
            self._say(client, {"accepted": True})
            self._send(client)  # what was ordered may take longer than a client waits for an answer
            client.order = Order(request, self._manager.lives)
            for name in request.names:
                self._manager.order(name, WANTED[request.action], _kernel.monotonic())
            return
        failures = [f"{name}: {why}" for name in request.names if (why := self._signal(name, request.signum))]
        self._end(client, 1 if failures else 0, failures)

    def _answer(self, client: Client, request: Request) -> None:
        """Answer a question."""
        names = request.names or list(self._manager.lives)
        health = self._checks.health
        if request.action == "health":
            asked = [self._manager.lives[name] for name in names]
            if not request.names:
                asked = [life for life in asked if life.service.essential]
            ailments = [status.ailment(life, health.get(life.service.name)) for life in asked]
            ill = [ailment for ailment in ailments if ailment]
            self._end(client, 1 if ill else 0, ["; ".join(ill)] if ill else [])
            return
        now, clock = _kernel.monotonic(), time.time()
        for name in names:
            life = self._manager.lives[name]
            told = self._checks.statuses.get(name)
            known = status.values(life, health.get(name), told, now, clock)
            if request.action == "status":
                known = {key: known[key] for key in status.SHOWN}
            self._say(client, {"service": known})
        self._end(client, 0, [])

    def _say(self, client: Client, what: dict[str, Any]) -> None:
        client.answer += json.dumps(what).encode() + b"\n"  # in ASCII: a word may be any bytes

    def _end(self, client: Client, code: int, errors: list[str]) -> None:
        """Say the end of an answer, and send all of it."""
        self._say(client, {"code": code, "errors": errors})
        client.is_last = True
        client.until = _kernel.monotonic() + PATIENCE
        self._send(client)

    def _send(self, client: Client) -> None:
        """Send what can be sent at once."""
        try:
            try:
                client.answer = client.answer[client.socket.send(client.answer, MSG_NOSIGNAL) :]
            except BlockingIOError:
                pass
            if client.answer:
                self._watch.remove(client.socket.fileno())
                self._watch.add(client.socket.fileno(), self._writable, WRITABLE)
            elif client.is_last:
                self._close(client)
        except OSError as error:
            self._lost(client, error)

    def _writable(self, fd: int) -> None:
        self._send(self._clients[fd])
