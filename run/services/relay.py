"""The relay: reads what services write, and passes it on to stdout and stderr, without ever waiting for anybody.

Each service has a pipe for each of its two streams, for all its lives; `run` holds both ends, so that a pipe never
comes to its end. Source: contract, "Output".
"""

import os
import select
from collections import deque

from run import _kernel
from run.loop import pause
from run.services.output import COLOURS, LONGEST_NAMED, LONGEST_PLAIN, Lines, heads
from run.services.plan import Service
from run.services.sink import Nowhere, Sink
from run.services.watch import WRITABLE, Watch

CHUNK = 56 * 1024
"""Bytes that are read at once: with names before the lines they fit in a pipe, and are read while `run` goes on."""

PIPE_SIZE = 256 * 1024
"""Bytes that a service can write while `run` does something else."""

AS_IT_IS = 0

MOST_IN_PIPES = 16 * 1024 * 1024
"""Bytes that all pipes together may hold, if they are to be larger: the kernel gives a user 64 MiB, pipe(7)."""


ATTEMPTS = 20
"""How often reading what services write may fail in a row before it is left for later."""


class Source:
    """One stream of one service: a pipe, and the sink that its lines go to."""

    def __init__(self, pipe: tuple[int, int], lines: Lines, sink: Sink, failures: set[str]) -> None:
        """Take the two ends of a pipe, and where to note why something cannot be read."""
        self.reads, self.writes = pipe
        self.lines = lines
        self.sink = sink
        self.was_given = False
        """Whether a life has had it, and may have changed it for all who share it."""
        self._taken = 0
        self._ends: deque[int] = deque()
        """The places, in bytes from the beginning, at which lives have ended, so that a line ends there, too."""
        self._failures = failures

    @property
    def has_begun(self) -> bool:
        """Whether a line has begun that has not ended."""
        return self.lines.has_begun

    @property
    def has_words(self) -> bool:
        """Whether something is in the pipe, or a line has begun."""
        return self.lines.has_begun or self.unread() != 0

    @property
    def has_end(self) -> bool:
        """Whether a life has ended whose last words were not passed on yet."""
        return bool(self._ends)

    def unread(self) -> int | None:
        """How many bytes are in the pipe; None where the kernel does not tell."""
        try:
            return _kernel.unread(self.reads)
        except OSError:
            return None

    def pass_on(self) -> bool:
        """Pass on what is there, at most a chunk; say whether it could be read. Not while the sink is blocked."""
        data: bytes | None = b""
        most = min(self._ends[0] - self._taken, CHUNK) if self._ends else CHUNK
        if most:
            data = self._read(most)
            if not data:
                self._ends = deque([self._taken] if self._ends else ())  # somebody else has read from the pipe
            else:
                self._taken += len(data)
                if pieces := self.lines.take(data):
                    self.sink.put(pieces)
        if self._ends and self._ends[0] == self._taken and not self.sink.is_blocked:
            self._ends.popleft()
            self.sink.put(self.lines.finish())
        return data is not None

    def _read(self, most: int) -> bytes | None:
        """Read what is there; None if that fails again and again."""
        failure = ""
        for _ in range(ATTEMPTS):
            try:
                return os.read(self.reads, most)
            except OSError as error:
                if isinstance(error, BlockingIOError) and not self.unread():
                    return b""
                failure = str(error.strerror)
        self._failures.add(failure)
        return None

    def life_ended(self) -> None:
        """A life has ended: what it has written so far is to end with a line's end."""
        unread = self.unread()
        self._ends.append(self._taken + (CHUNK if unread is None else unread))  # reading finds out how much there is

    def pass_on_last_words(self) -> None:
        """Pass on what lives that have ended have written, as far as the sink takes it."""
        while self._ends and not self.sink.is_blocked:
            self.pass_on()


class Relay:
    """All streams of all services, and where they go to."""

    def __init__(self, watch: Watch, stdout: Sink, stderr: Sink, streams: int) -> None:
        """Take who tells that something can be read or written, both sinks, which may be one, and how many streams."""
        self._pipe_size = PIPE_SIZE if streams * PIPE_SIZE <= MOST_IN_PIPES else AS_IT_IS
        self._watch = watch
        self.sinks = list(dict.fromkeys((stdout, stderr)))
        self._outputs = (stdout, stderr)
        self._nowhere = Nowhere()
        self._sources: dict[int, Source] = {}
        self._by_name: dict[str, tuple[Source, Source]] = {}
        self._parked: dict[Sink, list[Source]] = {sink: [] for sink in self.sinks}
        """Those who have to wait for a sink that is blocked."""
        self._awaited: set[int] = set()
        """The descriptors of the sinks that are blocked."""
        self._unheard: set[int] = set()
        """Those of them that cannot be waited for: they are tried again and again."""
        self._unwatched: list[Source] = []
        """Those who are parked no more, but not waited for yet."""
        self.failures: set[str] = set()
        """Why something could not be read."""
        # https://no-color.org
        self._has_colours = not any(entry.startswith(b"NO_COLOR=") and entry[9:] for entry in _kernel.environment())

    def add(self, service: Service, width: int, number: int, owner: tuple[int, int]) -> None:
        """Make the two pipes of a service, whose name is shown so wide. Raises OSError."""
        pair = []
        for sink in self._outputs if service.output != "null" else (self._nowhere, self._nowhere):
            if service.output != "named":
                lines = Lines(b"", b"", LONGEST_PLAIN)
            else:
                colour = COLOURS[number % len(COLOURS)] if sink.is_tty and self._has_colours else None
                lines = Lines(*heads(service.name, width, colour), LONGEST_NAMED)
            source = Source(_kernel.make_pipe(*owner, self._pipe_size), lines, sink, self.failures)
            pair.append(source)
            self._sources[source.reads] = source
            self._watch.add_late(source.reads, self._readable)
        self._by_name[service.name] = (pair[0], pair[1])

    def streams(self, name: str) -> tuple[int, int]:
        """What a service gets as stdout and stderr, for a life that begins. Raises KeyError and OSError."""
        out, err = self._by_name[name]
        for source in (out, err):
            if source.was_given:
                os.set_blocking(source.writes, True)  # open(2)
            source.was_given = True
        return out.writes, err.writes

    def _readable(self, fd: int) -> None:
        """A service has written something."""
        source = self._sources[fd]
        if source.sink.is_blocked:
            self._watch.remove(fd)
            self._parked[source.sink].append(source)
        elif not source.pass_on():
            self._watch.rest(fd)

    def _writable(self, fd: int) -> None:
        """Something can be written again."""
        for sink in self.sinks:
            if sink.fd == fd and not sink.flush():
                self._watch.rest(fd, WRITABLE)

    def life_ended(self, name: str) -> None:
        """A life of this service has ended: what it has written comes before anything else that it will."""
        for source in self._by_name.get(name, ()):
            if source.has_words:
                source.life_ended()
                source.pass_on_last_words()

    def settle(self) -> None:
        """Wait for the sinks that are blocked, and let those go on that have waited for one that is no more."""
        for sink in self.sinks:
            if sink.fd in self._unheard:
                sink.flush()
            if not sink.is_blocked and (sink.fd in self._awaited or sink.fd in self._unheard):
                self._unblocked(sink)
            if sink.is_blocked and sink.fd not in self._awaited:
                try:
                    self._watch.add_late(sink.fd, self._writable, WRITABLE)
                except OSError:
                    self._unheard.add(sink.fd)
                else:
                    self._awaited.add(sink.fd)
                    self._unheard.discard(sink.fd)
        if self._unwatched:
            self._watch_again()

    def _unblocked(self, sink: Sink) -> None:
        self._awaited.discard(sink.fd)
        self._unheard.discard(sink.fd)
        self._watch.remove(sink.fd)
        self._unwatched += self._parked[sink]
        self._parked[sink] = []
        for source in self._sources.values():
            if source.sink is sink and source.has_end:
                source.pass_on_last_words()

    def _watch_again(self) -> None:
        """Wait for those again who were parked; if that fails, read all the same, and try again later."""
        unwatched, self._unwatched = self._unwatched, []
        for source in unwatched:
            try:
                self._watch.add_late(source.reads, self._readable)
            except OSError:
                self._unwatched.append(source)
                if not source.sink.is_blocked:
                    source.pass_on()

    @property
    def is_impatient(self) -> bool:
        """Whether something has failed that is to be tried again soon."""
        return bool(self._unwatched or self._unheard)

    def drain(self, until: float) -> None:
        """Pass on what is left, now that nobody writes any more; a sink that is blocked has time until then.

        Nothing is waited for afterwards.
        """
        readable = self._watch.close()
        parked = {*self._unwatched, *(source for sources in self._parked.values() for source in sources)}
        left = [s for fd, s in self._sources.items() if fd in readable or s.has_begun or s.has_end or s in parked]
        for source in left:
            source.life_ended()
        while any(source.has_end for source in left):
            for source in left:
                source.pass_on_last_words()
            if not self._wait_for_sinks(until):
                break
        self.flush(until)
        for sink in self.sinks:
            if sink.is_blocked:
                sink.drop()
                sink.dropped += sum(source.unread() or 0 for source in left if source.sink is sink)

    def flush(self, until: float) -> None:
        """Write what the sinks have kept, as far as that is possible until then."""
        while any(sink.is_blocked for sink in self.sinks) and self._wait_for_sinks(until):
            pass

    def _wait_for_sinks(self, until: float) -> bool:
        """Wait until one of the sinks that are blocked takes something, if one is; say whether there was time."""
        blocked = [sink for sink in self.sinks if sink.is_blocked]
        seconds = until - _kernel.monotonic()
        if blocked and seconds > 0:
            poll = select.poll()
            for sink in blocked:
                poll.register(sink.fd, select.POLLOUT)
            try:
                poll.poll(seconds * 1000)
            except OSError:
                return False
            written = [sink.flush() for sink in blocked]
            if not any(written):
                pause()
        return not blocked or seconds > 0
