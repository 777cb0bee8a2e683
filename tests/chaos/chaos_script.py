"""Scripts of the chaos tests: what may happen, and the director who makes deeds of it."""

import signal
from typing import Any

from chaos_model import MOST_NODES, TooManyWaysError, after, beginning
from chaos_node import CATCH, IGNORE, RUN, Words
from chaos_world import Setup
from hypothesis import event
from hypothesis import strategies as st

# Whom it concerns is drawn as a number, and becomes one of those who are there when it comes to that.
WHO = st.integers(0, MOST_NODES - 1)
CODE = st.one_of(st.sampled_from([0, 0, 1, 255]), st.integers(0, 255))
COMMON = st.sampled_from([int(signal.SIGTERM), int(signal.SIGUSR1), int(signal.SIGHUP), int(signal.SIGINT), 40])
FORWARDED_ONES = st.one_of(
    COMMON, st.sampled_from([1, 2, 3, 10, 12, 14, 15, 16, 18, 23, 24, 27, 28, 29, 30, 34, 63, 64])
)
NOT_FORWARDED_ONES = st.sampled_from([13, 17, 20, 21, 22])
DEADLY = st.one_of(COMMON, st.sampled_from([n for n in range(1, 65) if n not in (17, 18, 19, 20, 21, 22, 23, 28)]))
ACTION = st.one_of(st.just(CATCH), st.just(IGNORE), st.just(CATCH), CODE, st.none())

GROW = st.one_of(
    st.tuples(st.just("fork"), WHO),
    st.tuples(st.just("orphan"), WHO),
    st.tuples(st.just("daemon"), WHO),
    st.tuples(st.just("action"), WHO, COMMON, ACTION),
    st.tuples(st.just("apart"), WHO),
    st.tuples(st.just("setpgid"), WHO, WHO),
)
HAPPEN = st.one_of(
    st.tuples(st.just("signal run"), FORWARDED_ONES),
    st.tuples(st.just("exit"), WHO, CODE),
    st.tuples(st.just("signal node"), WHO, DEADLY),
    st.tuples(st.just("fork"), WHO),
    st.tuples(st.just("signal run"), FORWARDED_ONES),
    st.tuples(st.just("signal group"), WHO, DEADLY),
    st.tuples(st.just("kill node"), WHO, WHO, DEADLY),
    st.tuples(st.just("kill group"), WHO, WHO, DEADLY),
    st.tuples(st.just("kill run"), WHO, FORWARDED_ONES),
    st.tuples(st.just("signal run"), NOT_FORWARDED_ONES),
    st.tuples(st.just("action"), WHO, COMMON, ACTION),
    st.tuples(st.just("action"), WHO, st.just(int(signal.SIGCHLD)), st.sampled_from([IGNORE, None])),
    st.tuples(st.just("reap"), WHO),
    st.tuples(st.just("subreaper"), WHO),
    st.tuples(st.just("setpgid"), WHO, WHO),
    st.tuples(st.just("leader"), WHO),
    st.tuples(st.just("join run"), WHO),
    st.tuples(st.just("setsid"), WHO),
)
# These are done alone: where a stop is taken while something else is under way, the order is anybody's guess.
STOP = st.one_of(
    st.tuples(st.just("signal node"), WHO, st.sampled_from([19, 20, 18])),
    st.tuples(st.just("signal group"), WHO, st.sampled_from([19, 20, 18])),
    st.tuples(st.just("signal node"), WHO, st.just(18)),
    st.tuples(st.just("kill node"), WHO, WHO, st.sampled_from([19, 20, 18])),
    st.tuples(st.just("signal run"), st.sampled_from([19, 18])),
    st.tuples(st.just("daemon"), WHO),
)
GROWTH = st.lists(st.tuples(GROW), max_size=12)
EVENTS = st.lists(st.one_of(st.lists(HAPPEN, min_size=1, max_size=3).map(tuple), st.tuples(STOP)), max_size=12)


def script(caught: set[int], *parts: list[Words]) -> list[Words]:
    """A script: the command catches something from the start, and its children inherit that; then come the parts."""
    begin = tuple(("action", 0, signum, CATCH) for signum in sorted(caught))
    return [begin, *(step for part in parts for step in part)]


SCRIPT = st.builds(script, st.sets(COMMON, max_size=4), GROWTH, EVENTS, GROWTH, EVENTS)
SETUP = st.builds(
    Setup,
    pid_1=st.booleans(),
    stop_with=st.sampled_from([None, 15, 10, 1, 9]),
    daemon=st.booleans(),
    grace=st.sampled_from([None, None, 3600, 0.05]),
)


class Director:
    """Turns a script into deeds: it follows the model, so that it knows who is there."""

    def __init__(self, setup: Setup) -> None:
        """Begin with the command alone."""
        self.world = after(beginning(setup), ())[0]
        self._born = 1
        self._most = 4 if setup.kills_soon else MOST_NODES  # TERM and KILL at once can go very many ways
        self.steps: list[tuple[Words, ...]] = []

    def play(self, things: tuple[Any, ...]) -> None:
        """Add a step, unless it can go too many ways."""
        if things and things[0][0] in ("apart", "orphan", "daemon"):
            self._grow(*things[0])
            return
        living = self.world.living()
        grouped = [thing for thing in things if thing[0] in ("signal group", "kill group")][:1]
        if grouped:
            # Two senders who signal a group at once do not take turns: some of it is reached first by one of them, some
            # by the other.
            things = (*(thing for thing in things if thing[0] == "fork"), *grouped)
        if living:
            self._add(tuple(deed for thing in things for deed in self._deeds(living, thing)))

    def _add(self, deeds: tuple[Words, ...]) -> None:
        try:
            world = after(self.world, deeds)[0]
        except TooManyWaysError:
            event("too many ways")
            return
        if deeds and not world.run.killing:
            self.steps.append(deeds)
            self.world = world

    def _grow(self, how: str, who: int) -> None:
        """A child with a group of its own; or the start of daemon(7): fork, setsid(2), fork, exit and be reaped."""
        living = self.world.living()
        if not living or self._born + 1 >= self._most:
            return
        parent, child, grandchild = living[who % len(living)], self._born, self._born + 1
        fork: Words = ("tell", parent, ("fork", child))
        if how == "apart":
            self._born += 1
            steps = [fork, ("tell", child, ("setpgid", child))]
        else:
            self._born += 2
            session: list[Words] = [("tell", child, ("setsid",))] if how == "daemon" else []
            left: list[Words] = [
                ("tell", child, ("fork", grandchild)),
                ("tell", child, ("exit", 0)),
                ("tell", parent, ("reap",)),
            ]
            steps = [fork, *session, *left]
        for deed in steps:
            self._add((deed,))

    def _deeds(self, living: list[int], thing: Words) -> list[Words]:
        """The deed for a thing, unless it cannot be done: whoever it concerns is drawn from those who are there."""
        verb, *words = thing
        if verb == "signal run":
            return [("signal", "run", RUN, words[0])]
        there = [number for number, _ in self.world.there()]
        who = living[words[0] % len(living)]
        whom = there[words[1] % len(there)] if verb in ("setpgid", "kill node", "kill group") else who
        group = self.world.node(whom).group
        if verb == "fork":
            born = range(self._born, self._most)[:1]
            self._born += len(born)
            return [("tell", who, ("fork", number)) for number in born]
        if verb in ("signal group", "kill group") and group == RUN:
            return []  # `run` itself is in it, and DEADLY is not for it
        deeds: dict[str, Words] = {
            "signal node": ("signal", "node", who, words[-1]),
            "signal group": ("signal", "group", group, words[-1]),
            "kill run": ("tell", who, ("kill", "run", RUN, words[-1])),
            "kill node": ("tell", who, ("kill", "node", whom, words[-1])),
            "kill group": ("tell", who, ("kill", "group", group, words[-1])),
            "setpgid": ("tell", who, ("setpgid", whom)),
            "leader": ("tell", who, ("setpgid", who)),
            "join run": ("tell", who, ("setpgid", RUN)),
        }
        return [deeds.get(verb, ("tell", who, (verb, *words[1:])))]
