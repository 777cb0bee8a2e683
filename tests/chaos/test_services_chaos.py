"""Contract, "A service's life", "The exit code of services", "Output", "Control", for random services and happenings.

A script is a list of things that happen, one after the other: ends, signals, orders, output, workers that are left
behind, healthchecks that flap. After each of them, once nothing moves, everything that can be seen must be what the
model (services_world, services_model) foresees: the log of each service, who is alive, who got which signal, every line
of output, the answer to an order, the exit code. In the end the order of all starts and stops is looked at, and when
each life has begun.

The environment variable CHAOS_SERVICES says how many to try.
"""

import os
from pathlib import Path

import pytest
from harness import Starter, compile_c
from hypothesis import Phase, event, given, note, reject, settings
from services_play import ServicesPlay, TooSlowError
from services_script import GRACE, SCRIPT, specs
from services_world import COMMON, DEFAULT, HANG, NEVER, Spec, Words

EXAMPLES = int(os.environ.get("CHAOS_SERVICES", "120"))


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program of all services."""
    source = Path(__file__).with_name("chaos_service.c").read_text()
    return compile_c(source, tmp_path_factory.mktemp("service") / "puppet", "-static", "-Wextra", "-Werror")


@settings(max_examples=EXAMPLES, print_blob=True, database=None, phases=[Phase.explicit, Phase.generate, Phase.shrink])
@given(specs=specs(), script=SCRIPT, grace=GRACE)
def test_whatever_happens_to_services_is_what_the_model_foresees(
    *, start: Starter, service: Path, tmp_path: Path, specs: dict[str, Spec], script: list[Words], grace: float
) -> None:
    note(f"common grace: {grace} s")
    note("\n".join(f"{name}: {spec}" for name, spec in specs.items()))
    play = None
    try:
        play = ServicesPlay(start, service, tmp_path, specs, grace)
        for thing in script:
            if play.is_over:
                break
            play.do(thing)
        play.finish()
    except TooSlowError:
        event("too slow")
        reject()
    finally:
        if play:
            note("\n".join(play.story))
            play.stage.end()


LEAVES_ONE = ("worker", 0, "apart"), ("exit", 0, 3)
LEAVES_SOME = ("worker", 0, "apart"), ("worker", 0, "worker"), ("exit", 0, 3), ("order", "signal", [0])


@pytest.mark.parametrize("grace", [NEVER, COMMON])
@pytest.mark.parametrize("how", [0, HANG, DEFAULT, 7])
@pytest.mark.parametrize("script", [(("worker", 0, "apart"),), LEAVES_ONE, LEAVES_SOME])
def test_what_a_daemon_leaves_is_stopped_with_it(
    *, start: Starter, service: Path, tmp_path: Path, script: tuple[Words, ...], how: int, grace: float
) -> None:
    specs = {"a": Spec(daemon=True, how=how), "b": Spec(depends_on=("a",), how=how)}
    play = ServicesPlay(start, service, tmp_path, specs, grace)
    try:
        for thing in script:
            play.do(thing)
        play.finish()
    finally:
        play.stage.end()
