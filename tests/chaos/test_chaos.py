"""Contract, "Exit code", "Signals" and "When a process ends", for random process trees to which random things happen.

A script is a list of steps; what is in one step is done at once, so that it races. After each step everything that can
be seen must be what the model (chaos_node, chaos_world, chaos_model) foresees: all processes with their parents, groups
and sessions, who got which signal from whom, what `run` has reaped, whether it has begun its shutdown, its exit code,
and that nobody survives it.

In a storm (chaos_storm) nothing waits for anything, and only what holds at all times is foreseen.

The environment variable CHAOS_EXAMPLES says how many trees to try.
"""

import os
from pathlib import Path
from typing import Any

import pytest
from chaos_model import TooManyWaysError
from chaos_play import Play
from chaos_script import SCRIPT, SETUP, Director
from chaos_stage import told
from chaos_storm import MEMBERS, MOMENTS, Member, Moment, Storm
from chaos_world import Setup
from harness import Starter, compile_c
from hypothesis import Phase, given, note, reject, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("CHAOS_EXAMPLES", "200"))


@pytest.fixture(scope="session")
def puppet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program of all processes but `run`."""
    source = Path(__file__).with_name("chaos_puppet.c").read_text()
    return compile_c(source, tmp_path_factory.mktemp("puppet") / "puppet", "-static", "-Wextra", "-Werror")


chaos = settings(
    max_examples=EXAMPLES,
    print_blob=True,
    database=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
)


@chaos
@given(setup=SETUP, script=SCRIPT, kill=st.booleans())
def test_whatever_happens_in_a_tree_of_processes_is_what_the_model_foresees(
    start: Starter, puppet: Path, setup: Setup, script: list[tuple[Any, ...]], kill: bool
) -> None:
    director = Director(setup)
    for things in script:
        director.play(things)
    note("\n".join("; ".join(map(told, deeds)) for deeds in director.steps))
    play = Play(start, puppet, setup)
    try:
        for deeds in director.steps:
            if play.worlds[0].run.ended:
                break
            play.do(deeds)
        play.finish(kill)
    except TooManyWaysError:
        reject()
    finally:
        play.close()


@settings(chaos, max_examples=EXAMPLES // 3)
@given(setup=SETUP, members=MEMBERS, moments=MOMENTS)
def test_in_a_storm_nobody_survives_and_the_command_gets_each_signal(
    start: Starter, puppet: Path, setup: Setup, members: list[Member], moments: list[Moment]
) -> None:
    storm = Storm(start, puppet, setup)
    try:
        storm.begin(members)
        for moment in moments:
            storm.at(moment)
        storm.calm_down()
        storm.end()
    finally:
        storm.close()
