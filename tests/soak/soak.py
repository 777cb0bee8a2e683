"""`run` under load for minutes: forks, exits, signals and stderr back-pressure at full speed, and every one counted.

    python3 tests/soak/soak.py --binary dist/run --minutes 10

Three of them run at once. Two have one command, load.c: one as PID 1 of a pid namespace, and one as a child subreaper.
It makes orphans of many kinds as fast as it can, while signals are sent to `run`: real-time signals queued up to a
window, standard signals each as soon as the same one was answered. Standard error is a pipe that is read fast, slowly
and not at all, in turn. After each such phase the load pauses, and what can be counted must be exact:

- every signal sent was received once by the command, and once by a daemon in a session of its own;
- `run` has no child left but those two, so every orphan that was made was reaped;
- where stderr was read fast, the log has one line for each orphan, with its exit code, and one for each signal.
  Elsewhere lines are dropped, as they should be, but those that arrive are whole.

The third, PID 1 as well, has fifty services, service.c, that crash, hang, flood their output, flap and leave orphans,
while clients of `run -c` start, stop, restart and ask them, and signals come. Both outputs are read fast, slowly and
not at all, and in each pause:

- every line that a service has written came once, whole and in order, or as much of it as there was time for;
- every client was answered, and as it should be; every signal was received once by each service that catches it;
- where the outputs were read fast, the log has one line for each start, each end with its exit code, each order and
  each orphan.

In the first half and at the end `run` is looked at while it sleeps: no zombie, no descriptor more, no kilobyte more.
What has leaked is in every look: so the highest of the first half is compared with the lowest of the last ones.
Python's objects are looked at apart from its pages: fifty services coincide in so many ways that the most that is
needed at once, of each size of object, is still found after minutes, ever more rarely. They may take POOLS for that.
"""

import argparse
import sys
import tempfile
import threading
import time
from pathlib import Path

from services_stress import ServicesStress
from services_subject import Services
from stress import PHASES, Stress
from subject import Subject, ViolationError, compile_program
from summary import markdown, markdown_of_services

PROGRESS_SECONDS = 10.0
LAST_LOOKS = 10
POOLS = 100
"""Kilobytes of pages that services may add after their warm-up: for sizes of which there never were as many objects."""
ROLES = ("pid-1", "subreaper", "services")

AnyStress = Stress | ServicesStress


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Put `run` under load for minutes, and count everything.")
    parser.add_argument("--binary", default="dist/run", help="the `run` to test (default: dist/run)")
    parser.add_argument("--minutes", type=float, default=10, help="how long, the warm-up included (default: 10)")
    parser.add_argument("--warm-up", type=float, default=60, metavar="SECONDS", help="at least (default: 60)")
    parser.add_argument("--phase", type=float, default=3, metavar="SECONDS", help="of each way to read (default: 3)")
    parser.add_argument("--slack", type=int, default=0, metavar="KB", help="memory that may be added (default: 0)")
    parser.add_argument("--role", choices=ROLES, action="append", help="which to soak (default: all at once)")
    parser.add_argument("--patience", type=float, default=60, metavar="SECONDS", help="until something counts as lost")
    return parser.parse_args()


def soak(stress: AnyStress, options: argparse.Namespace, stop: threading.Event) -> None:
    """Phase after phase until the time is over; what is wrong is noted in the result."""
    result = stress.result
    started, warm = time.monotonic(), False
    warm_up = max(options.warm_up, options.minutes * 30)
    pools = POOLS * isinstance(stress, ServicesStress)
    try:
        stress.start()
        while result.at_end is None and not stop.is_set():
            for kind in PHASES:
                stress.phase(kind, options.phase if warm else options.phase / 3)  # to see all there is in a minute
                if result.violations:
                    return
            vitals = stress.flood()
            result.seconds = time.monotonic() - started
            if result.warm_up is None or not warm:
                result.warm_up = vitals.worst(result.warm_up)
                warm = result.seconds >= warm_up
            elif result.seconds >= options.minutes * 60:
                result.at_end = vitals.lasting([stress.flood() for _ in range(LAST_LOOKS - 1)])
                result.violations += vitals.grown(result.warm_up, options.slack, pools)
        stress.finish()
    except ViolationError as violation:
        result.violations.append(f"{violation} (output read {stress.kind})")
    except Exception as error:
        result.violations.append(f"the soak itself failed: {type(error).__name__}: {error}")
    finally:
        if result.violations:
            stop.set()


def progress(stresses: dict[str, AnyStress], seconds: float) -> str:
    """One line."""
    parts = [f"{name}: {stress.progress()}" for name, stress in stresses.items()]
    return f"soak: {seconds:.0f} s: {'; '.join(parts)}"


def run_all(stresses: dict[str, AnyStress], options: argparse.Namespace) -> None:
    """Soak them at once, a thread for each, and show the progress."""
    stop = threading.Event()
    threads = [threading.Thread(target=soak, args=(s, options, stop), daemon=True) for s in stresses.values()]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(PROGRESS_SECONDS - (time.monotonic() - started) % PROGRESS_SECONDS)
            if thread.is_alive():
                print(progress(stresses, time.monotonic() - started), flush=True)


def started(role: str, binary: str, folder: Path, patience: float) -> tuple[Subject | Services, AnyStress]:
    """Start one of them."""
    if role == "services":
        services = Services(binary, compile_program("service", folder), folder)
        return services, ServicesStress(services, patience)
    subject = Subject(binary, compile_program("load", folder), as_pid_1=role == "pid-1")
    return subject, Stress(subject, patience)


def main() -> int:
    """Start, soak, print, and return the exit code."""
    options = arguments()
    binary = str(Path(options.binary).absolute())
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        subjects: list[Subject | Services] = []
        stresses: dict[str, AnyStress] = {}
        try:
            for role in options.role or ROLES:
                subject, stresses[role] = started(role, binary, Path(folder), options.patience)
                subjects.append(subject)
            run_all(stresses, options)
        finally:
            for stress in stresses.values():
                stress.end()
            for subject in subjects:
                subject.end()
    print(markdown({n: s.result for n, s in stresses.items() if isinstance(s, Stress)}), end="")
    print(markdown_of_services({n: s.result for n, s in stresses.items() if isinstance(s, ServicesStress)}), end="")
    results = {name: stress.result for name, stress in stresses.items()}
    for name, result in results.items():
        for violation in result.violations:
            print(f"soak: {name}: {violation}", file=sys.stderr)
    return 1 if any(result.violations or result.at_end is None for result in results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
