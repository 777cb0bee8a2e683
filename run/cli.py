"""The command line: the usage text, docopt, and what docopt cannot say well: which word is wrong, and what is accepted."""

import os

from docopt import DocoptExit, docopt

from run.signals import SENDABLE

USAGE = """\
Usage:
  run [-qsdt] cmd [args...]
  run [-hv]

Start `cmd`, then wait for it and all its descendants to complete.

Options:
  -q       Reduce logging level (may be given more than once).
  -s SIG   Send signal SIG to all remaining processes when one terminates;
           SIG can be any of: INT, TERM, KILL, QUIT, HUP, USR1, USR2.
  -d       Daemon mode: skip sending the above termination signal when `cmd`
           exits with code 0.
  -t N     Wait N seconds before sending KILL signal to all remaining processes.
  -h       Show this help and exit.
  -v       Show version and exit.
"""
"""What `run -h` prints. A constant, since a build may drop docstrings."""

GRAMMAR = """\
Usage: run [-q]... [-d]... [-h]... [-v]... [-s SIG]... [-t N]... [--] [CMD] [ARGS...]

Options:
  -s SIG  signal
  -t N    seconds
"""
"""The same for docopt: every option may be repeated, the last one counts, and -h and -v go before all else."""

FLAGS = "qdhv"
VALUED = "st"
MAX_SECONDS = 86400


class UsageError(Exception):
    """A wrong command line: the message names the offending word and what would be accepted."""


class Options:
    """The command line, as values."""

    def __init__(self, argv: list[str]) -> None:
        """Parse the words after the program's name. Raises UsageError."""
        try:
            words = docopt(GRAMMAR, argv, help=False, options_first=True)
        except DocoptExit:
            raise UsageError(explain(argv)) from None
        self.help = words["-h"] > 0
        self.version = words["-v"] > 0
        self.quiet: int = words["-q"]
        self.daemon = words["-d"] > 0
        self.signal = None if not words["-s"] else parse_signal(words["-s"][-1])
        self.grace = None if not words["-t"] else parse_seconds(words["-t"][-1])
        self.command = [] if words["CMD"] is None else [os.fsencode(word) for word in (words["CMD"], *words["ARGS"])]
        if not (self.help or self.version or self.command):
            raise UsageError("no command was given: 'run [-qsdt] cmd [args...]' is accepted")


def explain(argv: list[str]) -> str:
    """What is wrong with a command line that docopt refused, read as getopt(3) reads it."""
    words = iter(argv)
    for word in words:
        if word.startswith("--"):
            return f"unknown option '{word}': -q, -s SIG, -d, -t N, -h and -v are accepted"
        for i, letter in enumerate(word[1:], 2):
            if letter in VALUED:
                if not word[i:] and next(words, None) is None:
                    what = "a signal, such as TERM" if letter == "s" else "a number of seconds, such as 10"
                    return f"option '-{letter}' needs a value: {what}, is accepted"
                break
            if letter not in FLAGS:
                return f"unknown option '-{letter}': -q, -s SIG, -d, -t N, -h and -v are accepted"
    return "wrong usage: 'run [-qsdt] cmd [args...]' is accepted"


def parse_signal(word: str) -> int:
    """The number of the signal that `-s` names, with or without SIG, in any case. Raises UsageError."""
    name = word.upper()
    signum = SENDABLE.get(name[3:] if name.startswith("SIG") else name)
    if signum is None:
        raise UsageError(f"unknown signal '{word}' for -s: {', '.join(SENDABLE)} are accepted")
    return signum


def parse_seconds(word: str) -> float:
    """The seconds that `-t` gives: decimal digits, with or without a fraction. Raises UsageError."""
    digits = word.replace(".", "", 1)
    if digits.isascii() and digits.isdigit() and 0 < float(word) <= MAX_SECONDS:
        return float(word)
    raise UsageError(
        f"wrong number of seconds '{word}' for -t: more than 0 and at most {MAX_SECONDS} is accepted, such as 10 or 0.5"
    )
