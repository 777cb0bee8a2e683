"""The relay: reads what services write, and passes it on to stdout and stderr, without ever waiting for anybody.

Each service has a pipe for each of its two streams, for all its lives; `run` holds both ends, so that a pipe never
comes to its end. Source: contract, "Output".
"""

import os
import select
from collections import deque

from run import _kernel
from run.services.output import COLOURS, LONGEST_NAMED, LONGEST_PLAIN, Lines, heads
from run.services.plan import Service
from run.services.sink import Sink
from run.services.watch import WRITABLE, Watch

CHUNK = 256 * 1024
"""Bytes that are read at once."""

PIPE = 64 * 1024
"""Bytes that a pipe holds: pipe(7)."""

MOST_IN_PIPES = 16 * 1024 * 1024
"""Bytes that all pipes together may hold, if they are to be larger: the kernel gives a user 64 MiB, pipe(7)."""


class Source:
    """One stream of one service: a pipe, and the sink that its lines go to."""

    def __init__(self, pipe: tuple[int, int], lines: Lines, sink: Sink) -> None:
        """Take the two ends of a pipe."""
        self.reads, self.writes = pipe
        self.lines = lines
        self.sink = sink
        self._taken = 0
        self._ends: deque[int] = deque()
        """The places, in bytes from the beginning, at which lives have ended, so that a line ends there, too."""

    @property
    def has_begun(self) -> bool:
        """Whether a line has begun that has not ended."""
        return self.lines.has_begun

    @property
    def has_words(self) -> bool:
        """Whether something is in the pipe, or a line has begun."""
        return self.lines.has_begun or _kernel.unread(self.reads) > 0

    @property
    def has_end(self) -> bool:
        """Whether a life has ended whose last words were not passed on yet."""
        return bool(self._ends)

    def pass_on(self) -> None:
        """Pass on what is there, at most a chunk. Not while the sink is blocked."""
        most = min(self._ends[0] - self._taken, CHUNK) if self._ends else CHUNK
        if most:
            try:
                data = os.read(self.reads, most)
            except BlockingIOError:
                data = b""
                self._ends = deque([self._taken] if self._ends else ())  # somebody else has read from the pipe
            self._taken += len(data)
            if pieces := self.lines.take(data):
                self.sink.put(pieces)
        if self._ends and self._ends[0] == self._taken and not self.sink.is_blocked:
            self._ends.popleft()
            self.sink.put(self.lines.finish())

    def life_ended(self) -> None:
        """A life has ended: what it has written so far is to end with a line's end."""
        self._ends.append(self._taken + _kernel.unread(self.reads))

    def pass_on_last_words(self) -> None:
        """Pass on what lives that have ended have written, as far as the sink takes it."""
        while self._ends and not self.sink.is_blocked:
            self.pass_on()


class Relay:
    """All streams of all services, and where they go to."""

    def __init__(self, watch: Watch, stdout: Sink, stderr: Sink, streams: int) -> None:
        """Take who tells that something can be read or written, both sinks, which may be one, and how many streams."""
        _kernel.keep_freed_memory(4 * CHUNK)
        self._pipe_size = CHUNK if streams * CHUNK <= MOST_IN_PIPES else PIPE
        self._watch = watch
        self.sinks = list(dict.fromkeys((stdout, stderr)))
        self._outputs = (stdout, stderr)
        self._sources: dict[int, Source] = {}
        self._by_name: dict[str, tuple[Source, Source]] = {}
        self._parked: dict[Sink, list[Source]] = {sink: [] for sink in self.sinks}
        """Those who have to wait for a sink that is blocked."""
        self._awaited: set[int] = set()
        """The descriptors of the sinks that are blocked."""
        self._unwatched: list[Source] = []
        """Those who are parked no more, but not waited for yet."""
        # https://no-color.org
        self._has_colours = not any(entry.startswith(b"NO_COLOR=") and entry[9:] for entry in _kernel.environment())

    def add(self, service: Service, width: int, number: int, owner: tuple[int, int]) -> None:
        """Make the two pipes of a service, whose name is shown so wide. Raises OSError."""
        pair = []
        for sink in self._outputs:
            if service.output == "plain":
                lines = Lines(b"", b"", LONGEST_PLAIN)
            else:
                colour = COLOURS[number % len(COLOURS)] if sink.is_tty and self._has_colours else None
                lines = Lines(*heads(service.name, width, colour), LONGEST_NAMED)
            source = Source(_kernel.make_pipe(*owner, self._pipe_size), lines, sink)
            pair.append(source)
            self._sources[source.reads] = source
            self._watch.add_late(source.reads, self._readable)
        self._by_name[service.name] = (pair[0], pair[1])

    def streams(self, name: str) -> tuple[int, int]:
        """What a service gets as stdout and stderr, for a life that begins. Raises KeyError and OSError."""
        out, err = self._by_name[name]
        for source in (out, err):
            os.set_blocking(source.writes, True)  # a life before may have made it another: open(2)
        return out.writes, err.writes

    def _readable(self, fd: int) -> None:
        """A service has written something."""
        source = self._sources[fd]
        if source.sink.is_blocked:
            self._watch.remove(fd)
            self._parked[source.sink].append(source)
        else:
            source.pass_on()

    def life_ended(self, name: str) -> None:
        """A life of this service has ended: what it has written comes before anything else that it will."""
        for source in self._by_name.get(name, ()):
            if source.has_words:
                source.life_ended()
                source.pass_on_last_words()

    def settle(self) -> None:
        """Wait for the sinks that are blocked, and let those go on that have waited for one that is no more."""
        for sink in self.sinks:
            if not sink.is_blocked and sink.fd in self._awaited:
                self._unblocked(sink)
            if sink.is_blocked and sink.fd not in self._awaited:
                try:
                    self._watch.add_late(sink.fd, sink.writable, WRITABLE)
                except OSError as error:
                    sink.give_up(str(error.strerror))
                else:
                    self._awaited.add(sink.fd)
        if self._unwatched:
            self._watch_again()

    def _unblocked(self, sink: Sink) -> None:
        self._awaited.remove(sink.fd)
        self._watch.remove(sink.fd)
        self._unwatched += self._parked[sink]
        self._parked[sink] = []
        for source in self._sources.values():
            if source.sink is sink and source.has_end:
                source.pass_on_last_words()

    def _watch_again(self) -> None:
        """Wait for those again who were parked; if that fails it is tried again later."""
        unwatched, self._unwatched = self._unwatched, []
        for source in unwatched:
            try:
                self._watch.add_late(source.reads, self._readable)
            except OSError:
                self._unwatched.append(source)

    @property
    def is_impatient(self) -> bool:
        """Whether something has failed that is to be tried again soon."""
        return bool(self._unwatched)

    def drain(self, until: float) -> None:
        """Pass on what is left, now that nobody writes any more; a sink that is blocked has time until then.

        Nothing is waited for afterwards.
        """
        readable = self._watch.close()
        parked = {*self._unwatched, *(source for sources in self._parked.values() for source in sources)}
        left = [s for s in self._sources.values() if s.reads in readable or s in parked or s.has_end or s.has_begun]
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
                sink.dropped += sum(_kernel.unread(source.reads) for source in left if source.sink is sink)

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
            poll.poll(seconds * 1000)
            for sink in blocked:
                sink.flush()
        return not blocked or seconds > 0
