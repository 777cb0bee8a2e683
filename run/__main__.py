"""The entry point: parse the command line, run the reaper, and end with its exit code, whatever happens."""

from run import _kernel  # noqa: F401  # isort: skip  # loading it blocks signals, where nothing did before

import os
import sys

from run import VERSION
from run.cli import CONTROL, ONE, USAGE, Options, UsageError
from run.log import Log
from run.loop import RunError
from run.one.command import Command
from run.start import CANNOT_RUN
from run.stdout import show


def run(argv: list[str]) -> int:
    """Do what the words after the program's name say; return the exit code. Raises UsageError and RunError.

    The words are taken out of the list: however long they are, nobody needs them for long.
    """
    options = Options(argv[1:])
    argv.clear()
    if options.help or options.version:
        return show(USAGE if options.help else f"run {VERSION}\n")
    log = Log(options.quiet)
    for option in options.without_effect():
        log.warn(f"option {option}, and is ignored")
    if options.mode == ONE and options.user is None:
        return Command(options, log).run()
    # One command does without all that.
    from run.services import client, main  # noqa: PLC0415

    if options.mode == CONTROL:
        return client.ask(options, log)
    return main.run_as_user(options, log) if options.mode == ONE else main.run_services(options, log)


def main() -> None:
    """Never return, and show no traceback: os._exit(), since nothing is left that a tear-down could be good for."""
    code = CANNOT_RUN
    try:
        code = run(sys.argv)
    except UsageError as error:
        Log().error(f"{error}; try 'run -h'")
    except RunError as error:
        Log().error(str(error))
    except BaseException as error:
        Log().error(f"internal error: {type(error).__name__}: {error}")
    finally:
        os._exit(code)


if __name__ == "__main__":
    main()
