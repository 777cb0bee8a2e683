"""Run the same cases in each engine, and print a table. Called by `make elsewhere`.

    python tests/elsewhere/elsewhere.py [--engines "podman gvisor"] [--results FILE]...

It exits with 0 if every engine that was asked for is there and all its cases passed.
"""

import argparse
import os
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import image
from boxes import Engine, MissingError
from cases import CASES
from kubernetes import Kubernetes
from nspawn import Nspawn
from podman import Podman, PodmanRootless, PodmanRunc
from report import Row, copy_machines, table, write

from docker import Docker, GVisor, Swarm

ROOT = Path(__file__).resolve().parents[2]
QUICK: tuple[type[Engine], ...] = (Docker, PodmanRunc, Podman, PodmanRootless, GVisor, Nspawn, Swarm)
LONG: tuple[type[Engine], ...] = (Kubernetes,)
AT_ONCE = 4
ENGINES_AT_ONCE = 2
"""How many cases of an engine run at the same time, and how many engines: they wait most of the time."""


def chosen(words: list[str]) -> list[type[Engine]]:
    """The engines that these words pick: a name, or how it begins, so that podman is three."""
    known = {engine.name: engine for engine in QUICK + LONG}
    picked = [name for word in words for name in known if name == word or name.startswith(f"{word}-")]
    unknown = [word for word in words if not any(name == word or name.startswith(f"{word}-") for name in known)]
    if unknown:
        sys.exit(f"elsewhere: unknown engine {' '.join(unknown)}; there are {' '.join(known)}")
    return [known[name] for name in dict.fromkeys(picked)]


def say(*lines: str) -> None:
    """Print lines at once: print() writes the end of the last one apart, and other threads write in between."""
    sys.stdout.write("elsewhere: " + "\n".join([*lines, ""]))
    sys.stdout.flush()


def passes(engine: Engine, name: str, row: Row) -> None:
    """Run a case, and note how it went."""
    begin = time.monotonic()
    try:
        (CASES | engine.examples | engine.alone)[name](engine)
    except Exception as error:
        row.failed[name] = f"{error}".strip() or type(error).__name__
        say(f"{engine.name}: {name}: FAILED", *traceback.format_exception(error))
        return
    row.passed.append(name)
    say(f"{engine.name}: {name}: passed in {time.monotonic() - begin:.1f} s")


def tried(kind: type[Engine], layer: bytes, only: str) -> Row:
    """Run all cases in an engine."""
    engine, row, begin = kind(), Row(kind.name), time.monotonic()
    try:
        engine.open(layer)
        row.version = engine.version()
        row.lacks = {name: why for name, why in engine.lacks.items() if only in name}
        for at_once, cases in (AT_ONCE, CASES | engine.examples), (1, engine.alone):
            names = [name for name in cases if only in name and name not in row.lacks]
            with ThreadPoolExecutor(at_once) as pool:
                list(pool.map(lambda name: passes(engine, name, row), names))
    except MissingError as error:
        row.missing = f"{error}; install: {kind.packages}"
    except Exception as error:
        row.missing = f"it does not start: {error}"
    finally:
        for clean_up in engine.remove_boxes, engine.close:
            try:
                clean_up()
            except Exception as error:  # what is left behind is no reason not to tell the rest
                say(f"{engine.name}: cleaning up: {error!r}")
    row.seconds = time.monotonic() - begin
    return row


def main() -> int:
    """Try all that were asked for, and say how it went."""
    parser = argparse.ArgumentParser(description="Run the same cases in each engine.")
    parser.add_argument("--binary", type=Path, default=ROOT / "dist" / "run")
    parser.add_argument("--engines", default=" ".join(engine.name for engine in QUICK))
    parser.add_argument("--only", default="", help="only the cases with this in their names")
    parser.add_argument("--results", type=Path, action="append", default=[], help="write the tables into this file")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("elsewhere: engines are started here, which takes root")
    try:
        layer = image.layer(options.binary.absolute())
    except MissingError as error:
        sys.exit(f"elsewhere: {error}")
    with ThreadPoolExecutor(ENGINES_AT_ONCE) as pool:  # the last one takes longest
        kinds = chosen(options.engines.split())[::-1]
        rows = list(pool.map(lambda kind: tried(kind, layer, options.only), kinds))[::-1]
    others = [engine.name for engine in QUICK + LONG if engine.name not in {row.name for row in rows}]
    print("", *table(rows, others), sep="\n")
    for path in options.results:
        write(path, rows, [engine.name for engine in QUICK + LONG])
        copy_machines(options.results[0], path)
    return int(any(row.missing or row.failed for row in rows))


if __name__ == "__main__":
    sys.exit(main())
