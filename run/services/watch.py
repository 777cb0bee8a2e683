"""The watch: what many services wait for: signals, and descriptors that can be read or written. Source: epoll(7)."""

import select
from collections.abc import Callable

from run import _kernel
from run.loop import Signal, pause
from run.signals import CHLD

MOST_SIGNALS = 100
"""How many signals are taken before ends are looked at again."""

PERHAPS_AN_END: Signal = (CHLD, 0, 0, 0, 0)
"""Stands for a signal that cannot be taken: the one that must not be missed."""

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
        self._resting: dict[int, int] = {}
        """What is looked away from for a moment, and what is waited for there otherwise."""

    def add(self, fd: int, handler: Handler, events: int = READABLE) -> None:
        """Wait for a descriptor, too. Raises OSError: EPERM for a file that is always ready."""
        self._register(fd, events)
        self._handlers[fd] = handler

    def add_late(self, fd: int, handler: Handler, events: int = READABLE) -> None:
        """The same for output, which comes last."""
        self._register(fd, events)
        self._late_handlers[fd] = handler

    def remove(self, fd: int) -> None:
        """Wait no more, before it is closed."""
        self._handlers.pop(fd, None)
        self._late_handlers.pop(fd, None)
        self._resting.pop(fd, None)
        self._unregister(fd)  # if it was waited for

    def rest(self, fd: int, events: int = READABLE) -> None:
        """Look away from a descriptor for a moment: what was to be done there has failed, and would again, at once."""
        self._resting[fd] = events
        if not self._unregister(fd):
            pause()

    @property
    def is_impatient(self) -> bool:
        """Whether something has failed that is to be tried again soon."""
        return bool(self._resting)

    def wait(self, timeout: float | None) -> list[Signal]:
        """Sleep until something happens; return the signals that have come.

        Raises OSError where nothing tells what has happened: then all is looked at.
        """
        failure = None
        try:
            self._ready = [fd for fd, _ in self._epoll.poll(timeout)]
        except OSError as error:
            failure = error
            self._ready = [self.signal_fd, *self._handlers, *self._late_handlers]
        self._to_serve = iter(self._ready)
        self._drop_strays()
        if self._resting:
            self._look_again()
        signals = self._take_signals() if self.signal_fd in self._ready else []
        if failure and not signals:
            raise failure
        if not signals and self.signal_fd in self._ready:
            pause()  # one has come, and is not given
            signals = [PERHAPS_AN_END]
        return signals

    def _take_signals(self) -> list[Signal]:
        """Take what has come, not too much at once. Raises OSError, and loses none that was taken."""
        signals: list[Signal] = []
        try:
            while len(signals) < MOST_SIGNALS and (signal := _kernel.wait_signal(self._signals, 0)) is not None:
                signals.append(signal)
        except OSError:
            if not signals:
                raise
        return signals

    def close(self) -> set[int]:
        """Wait for nothing any more, and return where something is left to read.

        At the end of a process that is quicker than to leave it to the kernel to remove each descriptor.
        """
        try:
            ready = {fd for fd, _ in self._epoll.poll(0, len(self._handlers) + len(self._late_handlers) + 1)}
        except OSError:
            ready = {*self._handlers, *self._late_handlers}
        self._epoll.close()
        return ready | self._resting.keys()

    def _register(self, fd: int, events: int) -> None:
        try:
            self._epoll.register(fd, events)
        except FileExistsError as error:
            if self._is_known(fd) and fd not in self._resting:
                raise
            try:
                self._epoll.modify(fd, events)  # it could not be removed
            except FileNotFoundError:
                raise error from None

    def _unregister(self, fd: int) -> bool:
        try:
            self._epoll.unregister(fd)
        except OSError:
            return False
        return True

    def _drop_strays(self) -> None:
        """Remove again what could not be removed, and would be told of for ever."""
        for fd in self._ready:
            if not self._is_known(fd) and not self._unregister(fd):
                pause()

    def _is_known(self, fd: int) -> bool:
        return fd in self._late_handlers or fd in self._handlers or fd == self.signal_fd

    def _look_again(self) -> None:
        for fd, events in list(self._resting.items()):
            try:
                self._register(fd, events)
            except OSError:
                self._ready.append(fd)  # it is looked at, and this is tried again
            else:
                del self._resting[fd]

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
