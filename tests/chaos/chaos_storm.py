"""A storm of the chaos tests: all puppets have their orders from the start, and signals come at any moment.

What becomes of each puppet is anybody's guess, but some things must hold: see Storm.calm_down() and Storm.end().
"""

import os
import signal
import time
from typing import NamedTuple

from chaos_model import MOST_NODES
from chaos_node import CATCH, IGNORE, RUN, Words
from chaos_stage import ENDED, Stage, told
from harness import signals, wait_until
from hypothesis import strategies as st

STANDARD = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT]
REAL_TIME = [34, 40, 63]
CAUGHT = [*map(int, STANDARD), *REAL_TIME]
DEADLY = [*CAUGHT, signal.SIGKILL, signal.SIGSEGV, signal.SIGALRM, 32]
CODES = [0, 1, 77, 255]


class Member(NamedTuple):
    """A puppet: whose child it is, how long its parent waits before it is born, and what it does then."""

    parent: int
    nap: int
    orders: list[Words]


class Moment(NamedTuple):
    """A signal from outside, after so many microseconds, for `run`, a puppet or its group."""

    nap: int
    kind: str
    number: int
    signum: int


NAP = st.one_of(st.just(0), st.integers(0, 3000))
ORDER = st.one_of(
    st.tuples(st.just("bomb"), st.integers(0, 5), st.sampled_from(CODES)),
    st.tuples(st.just("nap"), NAP),
    st.tuples(st.just("action"), st.sampled_from(CAUGHT), st.sampled_from([None, CATCH, IGNORE, *CODES])),
    st.just(("setsid",)),
    st.just(("leader",)),
    st.tuples(st.just("raise"), st.sampled_from([*DEADLY, signal.SIGSTOP])),
    st.just(("subreaper",)),
    st.just(("reap",)),
    st.tuples(st.just("exit"), st.sampled_from(CODES)),
)
MEMBERS = st.lists(
    st.builds(Member, st.integers(0, MOST_NODES - 1), NAP, st.lists(ORDER, max_size=6)), max_size=MOST_NODES - 1
)
MOMENTS = st.lists(
    st.one_of(
        st.builds(Moment, NAP, st.just("run"), st.just(RUN), st.sampled_from(CAUGHT)),
        st.builds(Moment, NAP, st.just("node"), st.integers(1, MOST_NODES - 1), st.sampled_from([*DEADLY, 19, 18])),
        st.builds(Moment, NAP, st.just("group"), st.integers(1, MOST_NODES - 1), st.sampled_from([*DEADLY, 19, 18])),
        st.builds(Moment, NAP, st.just("run"), st.just(RUN), st.sampled_from(CAUGHT)),
    ),
    max_size=20,
)


class Storm(Stage):
    """A stage on which nothing waits for anything."""

    def begin(self, members: list[Member]) -> None:
        """The command catches all, and has the others as its children and grandchildren."""
        self._sent: list[int] = []
        for signum in CAUGHT:
            self.tell(0, ("action", signum, CATCH))
        caught = set(CAUGHT)
        wait_until(lambda: caught <= signals(self.pids[0], "SigCgt"), "the command catches all")
        orders: list[list[Words]] = [[] for _ in range(len(members) + 1)]
        for number, member in enumerate(members, 1):
            orders[member.parent % number] += [("nap", member.nap), ("fork", number)]
        for number, member in enumerate(members, 1):
            orders[number] += member.orders
        for number in reversed(range(len(orders))):
            self.story += [told(("tell", number, order)) for order in orders[number]]
            for order in orders[number]:
                self.tell(number, order)

    def at(self, moment: Moment) -> None:
        """Wait for the moment, and send its signal; not to the command's own group, which has to survive."""
        time.sleep(moment.nap / 1e6)
        self.hear_all()
        if self.started.process.poll() is not None:
            return
        if moment.kind == "run":
            self._sent.append(moment.signum)
            self.signal(self.run_pid, moment.signum)
        else:
            pid = self.pids.get(moment.number)
            seen = self.look().get(pid) if pid else None
            if pid is None or seen is None or (moment.kind == "group" and seen.group in (self.pids[0], os.getpgrp())):
                return
            self.signal(pid if moment.kind == "node" else -seen.group, moment.signum)
        self.story.append(told(("signal", *moment[1:])))

    def calm_down(self) -> None:
        """Once all is quiet: no zombie is left, and unless it was killed the command got each signal from `run`.

        Real-time signals as often as they were sent; others once at least, for those that wait are sent but once.
        """
        self.wait_for_peace()
        if self.started.process.poll() is not None:
            return
        zombies = [pid for pid, seen in self.seen.items() if seen.state == "Z" and seen.parent == self.run_pid]
        if zombies:
            raise self.failure(f"zombies: {zombies}")
        if self.pids[0] not in self.seen:
            return
        stopped_with = self.setup.stop_with if "] shutdown" in self.started.log() else None
        for signum in CAUGHT:
            got = self.got.get(0, []).count((signum, self.inner_pids[RUN]))
            most = self._sent.count(signum) + (signum == stopped_with)
            least = most if signum in REAL_TIME else min(most, 1)
            if not least <= got <= most:
                raise self.failure(f"the command got signal {signum} {got} times, not {least} to {most} times")

    def moves(self) -> bool:
        """Whether anybody is about to do something: also once it has slept for so long as it was told."""
        return super().moves() or any("nanosleep" in seen.sleeps for seen in self.seen.values())

    def end(self) -> None:
        """Kill all puppets, however many come up meanwhile: `run` ends, with the highest code, and nobody survives."""
        wait_until(self._killed, "run ends", self.patience)
        self.wait_for_silence()
        codes = [int(code or 128 + int(signum)) for _, code, signum in ENDED.findall(self.started.log())]
        possible = {*CODES, *(128 + signum for signum in DEADLY)}
        if self.started.process.returncode != max(codes) or not possible.issuperset(codes):
            raise self.failure(f"exit code {self.started.process.returncode} of {codes}")
        senders = {sender for events in self.got.values() for _, sender in events}
        if not senders <= set(self.inner_pids.values()):
            raise self.failure(f"signals from nobody: {self.got}")

    def _killed(self) -> bool:
        for pid in self.look():
            if pid != self.run_pid:
                self.signal(pid, signal.SIGKILL)
        self.hear_all()
        return self.started.process.poll() is not None
