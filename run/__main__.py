"""The entry point: parse the command line, run the reaper, and end with its exit code, whatever happens."""

from run import _kernel  # noqa: F401  # isort: skip  # loading it blocks signals, where nothing did before

import os
import sys

from run import VERSION
from run.cli import USAGE, Options, UsageError
from run.log import Log
from run.loop import RunError
from run.one.command import Command
from run.start import CANNOT_RUN

STDOUT = 1


def run(argv: list[str]) -> int:
    """Do what the words after the program's name say; return the exit code. Raises UsageError and RunError.

    The words are taken out of the list: however long they are, nobody needs them for long.
    """
    options = Options(argv[1:])
    argv.clear()
    if options.help or options.version:
        return show(USAGE if options.help else f"run {VERSION}\n")
    log = Log(options.quiet)
    if options.signal is None:
        for given, letter in ((options.daemon, "d"), (options.grace, "t")):
            if given:
                log.warn(f"option '-{letter}' has no effect without -s, and is ignored")
    return Command(options, log).run()


def show(text: str) -> int:
    """Print to stdout; return the exit code. Raises RunError when it cannot be written."""
    rest = text.encode()
    try:
        while rest:
            rest = rest[os.write(STDOUT, rest) :]
    except OSError as error:
        raise RunError(f"cannot write to standard output: {error.strerror}") from None
    return 0


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
