"""What many services wait for: descriptors, real ones; only the module in C, which is for signals, is none."""

import importlib
import os
import select
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import run


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A Watch, which waits for no signals."""
    before = set(sys.modules)
    kernel = ModuleType("run._kernel")
    kernel.__dict__.update(SimpleNamespace(signal_fd=lambda signals: os.eventfd(0)).__dict__)
    monkeypatch.setitem(sys.modules, "run._kernel", kernel)
    monkeypatch.setattr(run, "_kernel", kernel, raising=False)
    yield importlib.import_module("run.services.watch").Watch(0)
    for name in set(sys.modules) - before:
        if name.startswith("run"):
            del sys.modules[name]


def ready_pipes(count: int) -> list[int]:
    """So many descriptors from which a byte can be read."""
    found = []
    for _ in range(count):
        reads, writes = os.pipe()
        os.write(writes, b"x")
        found.append(reads)
    return found


def test_a_handler_that_raises_an_exception_keeps_no_other_one_from_being_called(watch: Any) -> None:
    """Nor is it called again before something was waited for: else no signal would be taken any more."""
    called: list[int] = []

    def handler(fd: int) -> None:
        called.append(fd)
        if len(called) == 2:
            raise ValueError(fd)

    fds = ready_pipes(4)
    for fd in fds:
        watch.add(fd, handler)
    watch.wait(0)
    with pytest.raises(ValueError):
        watch.serve()
    watch.serve()
    assert sorted(called) == fds
    watch.serve()
    assert len(called) == 4
    watch.wait(0)
    watch.serve()
    assert len(called) == 8


def test_what_rests_is_not_waited_for_once_and_then_it_is(watch: Any) -> None:
    called: list[int] = []
    resting, other = ready_pipes(2)
    for fd in resting, other:
        watch.add(fd, called.append)
    watch.rest(resting)
    assert watch.is_impatient
    watch.wait(0)
    watch.serve()
    assert called == [other]
    assert not watch.is_impatient
    watch.wait(0)
    watch.serve()
    assert sorted(called) == sorted([other, resting, other])


def test_what_can_be_written_rests_too(watch: Any) -> None:
    called: list[int] = []
    fd = os.pipe()[1]
    watch.add(fd, called.append, select.EPOLLOUT)
    watch.rest(fd, select.EPOLLOUT)
    for _ in range(2):
        watch.wait(0)
        watch.serve()
    assert called == [fd]


def test_what_is_waited_for_is_not_taken_over_by_another_one(watch: Any) -> None:
    (fd,) = ready_pipes(1)
    called: list[int] = []
    watch.add(fd, called.append)
    with pytest.raises(FileExistsError):
        watch.add_late(fd, called.append, select.EPOLLOUT)
    watch.wait(0)
    watch.serve()
    assert called == [fd]


def test_what_is_removed_while_it_rests_is_forgotten(watch: Any) -> None:
    called: list[int] = []
    (fd,) = ready_pipes(1)
    watch.add(fd, called.append)
    watch.rest(fd)
    watch.remove(fd)
    os.close(fd)
    for _ in range(2):
        watch.wait(0)
        watch.serve()
    assert called == []
    assert not watch.is_impatient
