"""A sink: where the lines of many services go, stdout or stderr of `run`. Nothing here waits.

What does not fit is kept, a little of it, and those who bring lines have to wait. Source: contract, "Output".
"""

import os
import select

from run.log import Log
from run.outlet import Outlet

LONGEST_LOG = 64 * 1024
"""Bytes of the log that are kept while a sink is blocked; more is dropped."""

MOST_PIECES = 512
"""Pieces in one call; the kernel takes 1024, IOV_MAX of writev(2)."""


SHORTLY = 1
"""Milliseconds in which a reader who keeps up makes room in a pipe that is full."""


class Sink:
    """Whole lines go in; to whom they go may be slow, or gone."""

    def __init__(self, given: int, name: str, interrupts: int) -> None:
        """Take a descriptor that `run` was given, what the log calls it, and one that tells of what comes first."""
        self.name = name
        self.outlet = Outlet(given)
        self.fd = self.outlet.open()
        self.is_tty = os.isatty(given)
        self.dropped = 0
        """Bytes that nobody was there for."""
        self.failure = ""
        """Why something could not be written."""
        self._kept: list[bytes | memoryview] = []
        self._kept_log = 0
        self._room = select.poll()
        self._room.register(self.fd, select.POLLOUT)
        self._room.register(interrupts, select.POLLIN)

    @property
    def is_blocked(self) -> bool:
        """Whether something is kept, so that nothing more can be taken."""
        return bool(self._kept)

    def put(self, pieces: list[bytes | memoryview]) -> None:
        """Write pieces of whole lines, and keep what does not fit. Only while it is not blocked."""
        self._kept = pieces
        self.flush()

    def put_log(self, line: bytes) -> None:
        """Write a line of the log: behind what is kept, so that it is not in the middle of a line."""
        if self.is_blocked:
            if self._kept_log + len(line) <= LONGEST_LOG:
                self._kept_log += len(line)
                self._kept.append(line)
        else:
            self.put([line])

    def flush(self) -> bool:
        """Write what is kept, as far as it can be; say whether that has made it less."""
        begun = kept = self._kept
        had_room = False
        while kept:
            try:
                written = self.outlet.write_pieces(kept if len(kept) <= MOST_PIECES else kept[:MOST_PIECES])
            except BlockingIOError:
                written = 0
            except OSError as error:
                self.give_up(str(error.strerror))
                return True
            if written:
                self._kept = kept = _rest(kept, written)
            if kept and ((had_room and not written) or not self._has_room_shortly()):
                return kept is not begun
            had_room = True
        self._kept_log = 0
        return True

    def _has_room_shortly(self) -> bool:
        """Wait for room, as long as nothing else happens that comes first: whoever keeps up makes some at once.

        To go round the whole loop for each pipeful would take several times as long.
        """
        try:
            return self._room.poll(SHORTLY) == [(self.fd, select.POLLOUT)]
        except OSError:
            return False

    def give_up(self, reason: str) -> None:
        """Something has failed: what is kept is dropped."""
        self.failure = self.failure or reason  # ECONNRESET comes before EPIPE
        self.drop()

    def drop(self) -> None:
        """Give up what is kept."""
        self.dropped += sum(map(len, self._kept))
        self._kept, self._kept_log = [], 0


class Nowhere(Sink):
    """Where lines go that nobody wants."""

    def __init__(self) -> None:
        """Take nothing."""
        self.is_tty = False
        self._kept = []

    def put(self, pieces: list[bytes | memoryview]) -> None:
        """Drop them."""


def _rest(pieces: list[bytes | memoryview], written: int) -> list[bytes | memoryview]:
    """What is left of pieces of which so many bytes were written."""
    for index, piece in enumerate(pieces):
        if written < len(piece):
            return [piece[written:], *pieces[index + 1 :]]
        written -= len(piece)
    return []


class SharedLog(Log):
    """The log, where lines of services go to stderr, too: it is written by the same sink."""

    def __init__(self, quiet: int, sink: Sink) -> None:
        """Count `-q` in quiet; take the sink of stderr."""
        super().__init__(quiet)
        self._sink = sink

    @property
    def fd(self) -> int | None:
        """The sink's own descriptor."""
        return self._sink.outlet.own

    def write(self, line: bytes) -> None:
        """Write a line, or keep it for a while."""
        self._sink.put_log(line)
