"""The command line: the usage text, docopt, and what docopt cannot say well: which word is wrong, what is accepted."""

import sys

from docopt import DocoptExit, TokenStream, formal_usage, parse_argv, parse_defaults, parse_pattern, printable_usage

from run.signals import SENDABLE
from run.text import printable

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
Usage: run [-qdhv -s SIG -t N]...

Options:
  -s SIG  signal
  -t N    seconds
"""
"""The options, for docopt: each may be repeated, and the last one counts."""

KNOWN = parse_defaults(GRAMMAR)
PATTERN = parse_pattern(formal_usage(printable_usage(GRAMMAR)), KNOWN).fix()
"""What docopt makes of the grammar, which never changes: made at import, which in the static build is once for all."""

FLAGS = "qdhv"
VALUED = {"s": "a signal, such as TERM, is accepted", "t": "a number of seconds, such as 10, is accepted"}
ACCEPTED = "-q, -s SIG, -d, -t N, -h and -v are accepted"
MAX_SECONDS = 86400


class UsageError(Exception):
    """A wrong command line: the message names the offending word and what would be accepted."""


class Options:
    """The command line, as values."""

    def __init__(self, argv: list[str]) -> None:
        """Parse the words after the program's name. Raises UsageError."""
        # docopt takes a time that grows with the square of the number of words, and the command's are none of its
        # business.
        options, command = split(argv)
        # The rest of what docopt.docopt() does.
        try:
            words = parse_argv(TokenStream(options, DocoptExit), list(KNOWN))
            fits, left, collected = PATTERN.match(words)
        except DocoptExit:
            fits = False
        if not fits or left:
            raise UsageError("wrong usage: 'run [-qsdt] cmd [args...]' is accepted")
        given = {option.name: option.value for option in PATTERN.flat() + collected}
        signals = [parse_signal(word) for word in given["-s"]]
        graces = [parse_seconds(word) for word in given["-t"]]
        self.help = given["-h"] > 0
        self.version = given["-v"] > 0
        self.quiet: int = given["-q"]
        self.daemon = given["-d"] > 0
        self.signal = signals[-1] if signals else None
        self.grace = graces[-1] if graces else None
        self.command = [encoded(word) for word in command]
        if not (self.help or self.version or self.command):
            raise UsageError("no command was given: 'run [-qsdt] cmd [args...]' is accepted")


def split(argv: list[str]) -> tuple[list[str], list[str]]:
    """The options, and the words of the command: from the first word on that is no option, or after `--`.

    Read as getopt(3) reads it. Raises UsageError for an option that is unknown, or lacks its value.
    """
    i = 0
    while i < len(argv) and argv[i].startswith("-") and argv[i] != "-":
        word = argv[i]
        if word == "--":
            return argv[:i], argv[i + 1 :]
        i += 1
        if word.startswith("--"):
            raise UsageError(f"unknown option '{shown(word)}': {ACCEPTED}")
        for place, letter in enumerate(word[1:], 2):
            if letter in VALUED:
                if place == len(word):  # then the value is the next word
                    i += 1
                    if i > len(argv):
                        raise UsageError(f"option '-{letter}' needs a value: {VALUED[letter]}")
                break
            if letter not in FLAGS:
                raise UsageError(f"unknown option '-{shown(letter)}': {ACCEPTED}")
    return argv[:i], argv[i:]


def encoded(word: str) -> bytes:
    """A word of the command line as the bytes that it was given in: os.fsencode()."""
    return word.encode(sys.getfilesystemencoding(), "surrogateescape")


def shown(word: str) -> str:
    """A word of the command line as it may stand in a message."""
    return printable(encoded(word))


def parse_signal(word: str) -> int:
    """The number of the signal that `-s` names, with or without SIG, in any case. Raises UsageError."""
    name = word.upper()
    signum = SENDABLE.get(name[3:] if name.startswith("SIG") else name)
    if signum is None or not word.isascii():
        raise UsageError(f"unknown signal '{shown(word)}' for -s: {', '.join(SENDABLE)} are accepted")
    return signum


def parse_seconds(word: str) -> float:
    """The seconds that `-t` gives: decimal digits, with or without a fraction. Raises UsageError."""
    digits = word.replace(".", "", 1)
    if digits.isascii() and digits.isdigit() and 0 < float(word) <= MAX_SECONDS:
        return float(word)
    accepted = f"more than 0 and at most {MAX_SECONDS} is accepted, such as 10 or 0.5"
    raise UsageError(f"wrong number of seconds '{shown(word)}' for -t: {accepted}")
