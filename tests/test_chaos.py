"""SPEC.md, "Exit code", "Signals" and "When a process ends", for random process trees to which random things happen.

A script is a list of steps; what is in one step is done at once, so that it races. After each step everything that can be
seen must be what the model (chaos_world.py, chaos_model.py) foresees: all processes with their parents, groups and
sessions, who got which signal from whom, what `run` has reaped, whether it has begun its shutdown, its exit code,
and that nobody survives it.

Many more examples: pytest tests/test_chaos.py --hypothesis-profile=chaos-long
"""

import signal
from pathlib import Path
from typing import Any

import pytest
from chaos_model import MOST_NODES, TooMany, after, beginning
from chaos_stage import Stage, finish, told
from chaos_world import CATCH, IGNORE, RUN, Setup, Words, World
from harness import Starter, compile_c
from hypothesis import HealthCheck, event, given, note, settings
from hypothesis import strategies as st

settings.register_profile("chaos-long", max_examples=5000)


@pytest.fixture(scope="session")
def puppet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program of all processes but `run`."""
    source = Path(__file__).with_name("chaos_puppet.c").read_text()
    return compile_c(source, tmp_path_factory.mktemp("puppet") / "puppet", "-static", "-Wextra", "-Werror")


# -- What may happen --------------------------------------------------------------------------------------------------

# Whom it concerns is drawn as a number, and becomes one of those who are there when it comes to that.
WHO = st.integers(0, MOST_NODES - 1)
CODE = st.one_of(st.sampled_from([0, 1, 3, 255]), st.integers(0, 255))
COMMON = st.sampled_from([signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGINT, 40])
FORWARDED_ONES = st.one_of(COMMON, st.sampled_from([1, 2, 3, 10, 12, 14, 15, 16, 18, 23, 24, 27, 28, 29, 30, 34, 63, 64]))
NOT_FORWARDED_ONES = st.sampled_from([13, 17, 20, 21, 22])
DEADLY = st.one_of(COMMON, st.sampled_from([n for n in range(1, 65) if n not in (17, 18, 19, 20, 21, 22, 23, 28)]))
ACTION = st.one_of(st.just(CATCH), st.just(IGNORE), st.just(CATCH), CODE, st.none())

GROW = st.one_of(
    st.tuples(st.just("fork"), WHO),
    st.tuples(st.just("daemonize"), WHO),
    st.tuples(st.just("action"), WHO, COMMON, ACTION),
    st.tuples(st.just("fork"), WHO),
    st.tuples(st.just("setsid"), WHO),
    st.tuples(st.just("setpgid"), WHO, WHO),
    st.tuples(st.just("action"), WHO, COMMON, ACTION),
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
    st.tuples(st.just("action"), WHO, st.just(signal.SIGCHLD), st.sampled_from([IGNORE, None])),
    st.tuples(st.just("reap"), WHO),
    st.tuples(st.just("subreaper"), WHO),
    st.tuples(st.just("setpgid"), WHO, WHO),
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
    st.tuples(st.just("daemonize"), WHO),
)
SCRIPT = st.lists(
    st.one_of(st.tuples(GROW), st.lists(HAPPEN, min_size=1, max_size=3).map(tuple), st.tuples(GROW), st.tuples(STOP)),
    min_size=1,
    max_size=24,
)
SETUP = st.builds(
    Setup,
    pid_1=st.booleans(),
    stop_with=st.sampled_from([None, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGKILL]),
    daemon=st.booleans(),
    grace=st.sampled_from([None, None, 3600, 0.05]),
)


class Director:
    """Turns a script into deeds: it follows the model, so that it knows who is there."""

    def __init__(self, setup: Setup) -> None:
        """Begin with the command alone."""
        self.world = after(beginning(setup), ())[0]
        self._born = 1
        self.steps: list[tuple[Words, ...]] = []

    def play(self, things: tuple[Any, ...]) -> None:
        """Add a step, unless it can go too many ways."""
        if things[0][0] == "daemonize":
            self._daemonize(things[0][1])
            return
        living = self.world.living()
        if living:
            self._add(tuple(deed for thing in things for deed in self._deeds(living, thing)))

    def _add(self, deeds: tuple[Words, ...]) -> None:
        try:
            world = after(self.world, deeds)[0]
        except TooMany:
            event("too many ways")
            return
        if deeds and not world.run.killing:
            self.steps.append(deeds)
            self.world = world

    def _daemonize(self, who: int) -> None:
        """As in daemon(7): fork, setsid(2), fork, and the one between ends and is reaped."""
        living = self.world.living()
        if living and self._born + 1 < MOST_NODES:
            one, between, daemon = living[who % len(living)], self._born, self._born + 1
            self._born += 2
            for number, order in (
                (one, ("fork", between)),
                (between, ("setsid",)),
                (between, ("fork", daemon)),
                (between, ("exit", 0)),
                (one, ("reap",)),
            ):
                self._add((("tell", number, order),))

    def _deeds(self, living: list[int], thing: Words) -> list[Words]:
        verb, *words = thing
        if verb == "signal run":
            return [("signal", "run", RUN, words[0])]
        who = living[words[0] % len(living)]
        there = [number for number, _ in self.world.there()]
        if verb == "fork":
            if self._born == MOST_NODES:
                return []
            self._born += 1
            return [("tell", who, ("fork", self._born - 1))]
        if verb == "signal node":
            return [("signal", "node", who, words[1])]
        if verb == "signal group":
            group = self.world.node(who).group
            return [] if group == RUN and self.world.run.setup.pid_1 else [("signal", "group", group, words[1])]
        if verb == "kill run":
            return [("tell", who, ("kill", "run", RUN, words[1]))]
        if verb == "kill node":
            return [("tell", who, ("kill", "node", there[words[1] % len(there)], words[2]))]
        if verb == "kill group":
            group = self.world.node(there[words[1] % len(there)]).group
            return [] if group == RUN else [("tell", who, ("kill", "group", group, words[2]))]
        if verb == "setpgid":
            return [("tell", who, ("setpgid", there[words[1] % len(there)]))]
        if verb == "join run":
            return [("tell", who, ("setpgid", RUN))]
        return [("tell", who, (verb, *words[1:]))]


# -- The tests --------------------------------------------------------------------------------------------------------


@settings(
    deadline=None, max_examples=max(200, settings().max_examples), print_blob=True, suppress_health_check=list(HealthCheck)
)
@given(setup=SETUP, script=SCRIPT, kill=st.booleans())
def test_whatever_happens_in_a_tree_of_processes_is_what_the_model_foresees(
    start: Starter, puppet: Path, setup: Setup, script: list[tuple[Any, ...]], kill: bool
) -> None:
    director = Director(setup)
    for things in script:
        director.play(things)
    note("\n".join("; ".join(map(told, deeds)) for deeds in director.steps))
    stage = Stage(start, puppet, setup)
    try:
        for deeds in director.steps:
            if stage.worlds[0].run.ended:
                break
            stage.do(deeds)
        finish(stage, kill)
    finally:
        stage.close()
