"""The watch: what many services wait for: signals, and descriptors that can be read or written. Source: epoll(7)."""

import select
from collections.abc import Callable

from run import _kernel
from run.loop import Signal

MOST_SIGNALS = 100
"""How many signals are taken before ends are looked at again."""

READABLE, WRITABLE = select.EPOLLIN, select.EPOLLOUT

Handler = Callable[[int], None]
"""Called with a descriptor when something can be read or written there."""


class Watch:
    """Waits, and calls who is concerned: first those who bring events, then those who pass on output."""

    def __init__(self, signals: int) -> None:
        """Take the set of signals to wait for. Raises OSError."""
        self._signals = signals
        self._epoll = select.epoll()
        self.signal_fd = _kernel.signal_fd(signals)
        """Readable when a signal has come, an end of a process among them."""
        self._epoll.register(self.signal_fd, READABLE)
        self._handlers: dict[int, Handler] = {}
        self._late_handlers: dict[int, Handler] = {}
        self._ready: list[int] = []
        self._to_serve = iter(self._ready)
        self._resting: list[int] = []

    def add(self, fd: int, handler: Handler, events: int = READABLE) -> None:
        """Wait for a descriptor, too. Raises OSError: EPERM for a file that is always ready."""
        self._epoll.register(fd, events)
        self._handlers[fd] = handler

    def add_late(self, fd: int, handler: Handler, events: int = READABLE) -> None:
        """The same for output, which comes last."""
        self._epoll.register(fd, events)
        self._late_handlers[fd] = handler

    def change(self, fd: int, events: int) -> None:
        """Wait for something else at a descriptor."""
        self._epoll.modify(fd, events)

    def remove(self, fd: int) -> None:
        """Wait no more, before it is closed."""
        self._handlers.pop(fd, None)
        self._late_handlers.pop(fd, None)
        try:
            self._epoll.unregister(fd)
        except OSError:
            pass  # it never was waited for

    def rest(self, fd: int) -> None:
        """Look away from a descriptor for a moment: what was to be done there has failed, and would again, at once."""
        self._epoll.modify(fd, 0)
        self._resting.append(fd)

    @property
    def is_impatient(self) -> bool:
        """Whether something has failed that is to be tried again soon."""
        return bool(self._resting)

    def wait(self, timeout: float | None) -> list[Signal]:
        """Sleep until something happens; return the signals that have come. Raises OSError."""
        self._ready = [fd for fd, _ in self._epoll.poll(timeout)]
        self._to_serve = iter(self._ready)
        if self._resting:
            self._look_again()
        signals: list[Signal] = []
        if self.signal_fd in self._ready:
            while len(signals) < MOST_SIGNALS and (signal := _kernel.wait_signal(self._signals, 0)) is not None:
                signals.append(signal)
        return signals

    def close(self) -> set[int]:
        """Wait for nothing any more, and return where something is left to read.

        At the end of a process that is quicker than to leave it to the kernel to remove each descriptor.
        """
        ready = {fd for fd, _ in self._epoll.poll(0, len(self._handlers) + len(self._late_handlers) + 1)}
        self._epoll.close()
        return ready

    def _look_again(self) -> None:
        resting, self._resting = self._resting, []
        for fd in resting:
            if fd in self._handlers:
                self._epoll.modify(fd, READABLE)

    def serve(self) -> None:
        """Call who brings events: each once, even if one of them raises an exception, and this is called again."""
        for fd in self._to_serve:
            if handler := self._handlers.get(fd):
                handler(fd)

    def serve_late(self) -> None:
        """Call who passes on output."""
        ready, self._ready = self._ready, []
        for fd in ready:
            if handler := self._late_handlers.get(fd):
                handler(fd)
