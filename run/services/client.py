"""The client: `run -c` asks the `run` of this container, and shows what it answers. Source: contract, "Control"."""

import errno
import json
import os
from collections.abc import Iterator
from typing import Any

from run import _kernel, children
from run.cli import Options
from run.descriptors import STDOUT, above_stderr
from run.log import Log
from run.loop import RunError
from run.services import place, status
from run.services.orders import LONGEST_REQUEST, RequestError, parse
from run.services.sockets import (
    AF_UNIX,
    MSG_NOSIGNAL,
    MSG_PEEK,
    SO_PASSCRED,
    SOCK_CLOEXEC,
    SOCK_STREAM,
    SOL_SOCKET,
    Socket,
)
from run.services.words import decoded
from run.stdout import show

PATIENCE = 10.0
"""Seconds in which `run` has to answer."""

ATTEMPTS = 20
"""How often it is tried while the connection is closed before anything was said."""

FAILED = 1

NOBODY = "there is no `run` with services in this container"
NOT_ACCEPTED = "no answer: root, or the user of `run`, in the same pid namespace is accepted"


def ask(options: Options, log: Log) -> int:
    """Ask, show the answer, and return the exit code: 0, or 1 and the reason. Raises RunError for wrong words."""
    assert options.action is not None
    words = [decoded(word) for word in options.words]
    try:
        parse(options.action, words)
    except RequestError as error:
        raise RunError(str(error)) from None
    _be_interruptible()
    request = json.dumps({"action": options.action, "words": words}).encode()
    if len(request) > LONGEST_REQUEST:
        raise RunError(f"{len(words)} words are too many: a request of {LONGEST_REQUEST // 1024} KiB is accepted")
    request += b"\n"
    try:
        for _ in range(ATTEMPTS):
            try:
                return _show(options.action, _lines(_asked(request)), log)
            except _UnheardError:
                continue
        log.error(NOT_ACCEPTED)
    except _NoAnswerError as error:
        log.error(str(error))
    except TimeoutError:
        log.error(f"no answer within {PATIENCE:g} s")
    except OSError as error:
        log.error(f"no answer: {error.strerror}")
    except (ValueError, LookupError, TypeError, RecursionError):
        log.error("the answer cannot be understood")
    return FAILED


class _NoAnswerError(Exception):
    """There is nobody to ask, or no longer."""


class _UnheardError(Exception):
    """The connection was closed before anything was said: to who may not ask, or is slow where very many ask."""


def _be_interruptible() -> None:
    """Let signals end this process as they would end any other: it is no PID 1, and has no children."""
    _kernel.set_mask(_kernel.started_with()[0])


def _pid() -> int:
    """The `run` of this container. Raises _NoAnswerError."""
    me = os.getpid()
    found = [pid for pid in place.pids() if pid != me]
    if len(found) > 1 and 1 not in found:
        found = [pid for pid in found if children.descends(me, pid)] or found
        if len(found) > 1:
            raise _NoAnswerError(
                f"several of them are here, with the pids {', '.join(map(str, found))}: one is accepted"
            )
    if not found:
        raise _NoAnswerError(NOBODY)
    return 1 if 1 in found else found[0]


def _asked(request: bytes) -> Socket:
    """A connection to the `run` of this container, to which a request was sent.

    Raises _UnheardError, _NoAnswerError and OSError.
    """
    pid = _pid()
    low = Socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)  # it may have the number of a standard stream that is closed
    connection = Socket(AF_UNIX, SOCK_STREAM, 0, above_stderr(low.detach()))
    try:
        connection.connect_within(PATIENCE, b"\0" + f"{place.prefix()}/{pid}".encode())
    except OSError as error:
        if error.errno == errno.ECONNREFUSED:
            raise _NoAnswerError(NOBODY) from None
        raise
    peer, uid = connection.peer()
    is_asked = peer == os.getpid()
    try:
        if is_asked:
            peer, uid = _introduced(connection, request)
        if peer != pid:
            raise _NoAnswerError(f"it is not the `run` of this container that answers, but pid {peer} of uid {uid}")
        if os.geteuid() not in (0, uid) and uid:
            raise _NoAnswerError(NOT_ACCEPTED)
        if not is_asked:
            connection.sendall(request, MSG_NOSIGNAL)
    except (BrokenPipeError, ConnectionResetError):
        raise _UnheardError from None
    return connection


def _introduced(connection: Socket, request: bytes) -> tuple[int, int]:
    """Where SO_PEERCRED tells who asks, as in gVisor, and not who is at the other end: send a request; who answers it.

    Raises _UnheardError and OSError.
    """
    connection.setsockopt(SOL_SOCKET, SO_PASSCRED, 1)
    connection.introduce(request)
    answer, pid, uid = connection.receive(1, MSG_PEEK)
    if not answer:
        raise _UnheardError
    return pid, uid


def _lines(connection: Socket) -> Iterator[dict[str, Any]]:
    """The lines of the answer to a request; for an order that was accepted, without a limit on the time.

    Raises _UnheardError, _NoAnswerError and OSError.
    """
    begun = b""
    is_heard = False
    try:
        while data := connection.recv(1 << 16):
            is_heard = True
            *lines, begun = (begun + data).split(b"\n")
            for line in lines:
                answer = json.loads(line)
                if "accepted" in answer:
                    connection.settimeout(None)
                else:
                    yield answer
    except (BrokenPipeError, ConnectionResetError):
        pass
    if not is_heard:
        raise _UnheardError
    raise _NoAnswerError("`run` has ended, or has no patience any more, before all was said")


def _show(action: str, lines: Iterator[dict[str, Any]], log: Log) -> int:
    """Show an answer; return the exit code."""
    services = []
    for answer in lines:
        if "service" in answer:
            services.append(answer["service"])
            continue
        for error in answer["errors"]:
            if action == "health":
                show(f"{error}\n")
            else:
                log.error(error)
        if action == "status" and not answer["code"]:
            show(status.table(services, _has_colours()))
        elif action == "json":
            show("".join(json.dumps(service) + "\n" for service in services))
        return int(answer["code"])
    return FAILED


def _has_colours() -> bool:
    """Whether stdout is a terminal, and NO_COLOR is not set: https://no-color.org."""
    return os.isatty(STDOUT) and not any(e.startswith(b"NO_COLOR=") and e[9:] for e in _kernel.environment())
