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
from services_script import SCRIPT, specs
from services_world import Spec, Words

EXAMPLES = int(os.environ.get("CHAOS_SERVICES", "120"))


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program of all services."""
    source = Path(__file__).with_name("chaos_service.c").read_text()
    return compile_c(source, tmp_path_factory.mktemp("service") / "puppet", "-static", "-Wextra", "-Werror")


@settings(max_examples=EXAMPLES, print_blob=True, database=None, phases=[Phase.explicit, Phase.generate, Phase.shrink])
@given(specs=specs(), script=SCRIPT)
def test_whatever_happens_to_services_is_what_the_model_foresees(
    start: Starter, service: Path, tmp_path: Path, specs: dict[str, Spec], script: list[Words]
) -> None:
    note("\n".join(f"{name}: {spec}" for name, spec in specs.items()))
    play = None
    try:
        play = ServicesPlay(start, service, tmp_path, specs)
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
