"""The command line: the usage text, docopt, and what docopt cannot say well: which word is wrong, what is accepted."""

import sys

from docopt import DocoptExit, OneOrMore, Option, Optional, Required, TokenStream, parse_argv

from run.signals import SENDABLE
from run.text import printable

USAGE = """\
Usage:
  run [-qsdtu] cmd [args...]
  run [-qstn] -m cmd...
  run [-qtn] -f FILE [name...]
  run -c ACTION [name...]
  run [-hv]

Start `cmd`, then wait for it and all its descendants to complete.

Options:
  -q       Reduce logging level (may be given more than once).
  -s SIG   Send signal SIG to all remaining processes when one terminates;
           SIG can be any of: INT, TERM, KILL, QUIT, HUP, USR1, USR2.
  -d       Daemon mode: skip sending the above termination signal when `cmd`
           exits with code 0.
  -t N     Wait N seconds before sending KILL signal to all remaining processes.
  -u USER  Run cmd as USER, as in a Dockerfile: a name or a number, with :GROUP
           if wanted.
  -m       Many services: each cmd is a whole command line, split into words as
           a shell would; no shell is needed.
  -f FILE  Start the services that FILE (TOML) describes, or those named and
           what they depend on.
  -n       Only check, and print what would be started, in which order, and how.
  -c       Ask the `run` of this container: status, json, health, start, stop,
           restart, signal SIG.
  -h       Show this help and exit.
  -v       Show version and exit.
"""
"""What `run -h` prints. A constant, since a build may drop docstrings."""

FLAGS = "qdhvmn"
VALUED = {
    "s": "a signal, such as TERM, is accepted",
    "t": "a number of seconds, such as 10, is accepted",
    "u": "a user, such as nobody or 1000:1000, is accepted",
    "f": "the path of a file is accepted",
    "c": "status, json, health, start, stop, restart or signal is accepted",
}
COUNTED = [Option(f"-{letter}", value=0) for letter in FLAGS]
KNOWN = [Option(f"-{letter}", argcount=1) for letter in VALUED] + COUNTED
PATTERN = Required(Required(OneOrMore(Optional(*COUNTED, *(Option(f"-{v}", argcount=1, value=[]) for v in VALUED)))))
"""What docopt makes of `run [-qdhvmn -s SIG -t N -u USER -f FILE -c ACTION]...`: each may be repeated, and the last one
counts. It never changes, and docopt would take a quarter of a start without a snapshot to read it."""

ACCEPTED = "-q, -s SIG, -d, -t N, -u USER, -m, -f FILE, -n, -c ACTION, -h and -v are accepted"
MAX_SECONDS = 86400

ONE, MANY, FILE, CONTROL = "cmd", "-m", "-f", "-c"
"""What the words are: one command, command lines, names of services, or those whom an order is for."""


class UsageError(Exception):
    """A wrong command line: the message names the offending word and what would be accepted."""


class Options:
    """The command line, as values."""

    def __init__(self, argv: list[str]) -> None:
        """Parse the words after the program's name. Raises UsageError."""
        # docopt takes a time that grows with the square of the number of words, and the command's are none of its
        # business.
        options, words = split(argv)
        # The rest of what docopt.docopt() does.
        try:
            parsed = parse_argv(TokenStream(options, DocoptExit), list(KNOWN))
            fits, left, collected = PATTERN.match(parsed)
        except DocoptExit:
            fits = False
        if not fits or left:
            raise UsageError("wrong usage: 'run [-qsdtu] cmd [args...]' is accepted")
        given = {option.name: option.value for option in PATTERN.flat() + collected}
        signals = [parse_signal(word) for word in given["-s"]]
        graces = [parse_seconds(word) for word in given["-t"]]
        self.help = given["-h"] > 0
        self.version = given["-v"] > 0
        self.quiet: int = given["-q"]
        self.daemon = given["-d"] > 0
        self.signal = signals[-1] if signals else None
        self.grace = graces[-1] if graces else None
        self.check = given["-n"] > 0
        self.user: str | None = given["-u"][-1] if given["-u"] else None
        self.file = encoded(given["-f"][-1]) if given["-f"] else None
        self.action: str | None = given["-c"][-1] if given["-c"] else None
        modes = [mode for mode in (MANY, FILE, CONTROL) if given[mode]]
        self.mode: str = modes[0] if modes else ONE
        self.words = [encoded(word) for word in words]
        if not (self.help or self.version):
            self._check(modes)

    def _check(self, modes: list[str]) -> None:
        """Check what belongs together. Raises UsageError."""
        if len(modes) > 1:
            raise UsageError(f"options {' and '.join(map(repr, modes))} cannot be together: one of them is accepted")
        if self.mode == ONE and self.check:
            raise UsageError("option '-n' is for many services: -m or -f is accepted beside it")
        if self.mode != ONE and self.user is not None:
            raise UsageError("option '-u' is for one command: for services `user` in the file of -f is accepted")
        if self.mode == ONE and not self.words:
            raise UsageError("no command was given: 'run [-qsdtu] cmd [args...]' is accepted")
        if self.mode == MANY and not self.words:
            raise UsageError("no command line was given: 'run [-qstn] -m cmd...' is accepted")

    def without_effect(self) -> list[str]:
        """What has no meaning where it stands, each as what is said of an option."""
        found = []
        is_for_command = self.mode in (ONE, MANY)
        if self.signal is not None and not is_for_command:
            found.append(f"'-s' has no effect with {self.mode}")
        if self.daemon and self.mode != ONE:
            found.append(f"'-d' has no effect with {self.mode}")
        elif self.daemon and self.signal is None:
            found.append("'-d' has no effect without -s")
        if self.grace is not None and (self.mode == CONTROL or (is_for_command and self.signal is None)):
            found.append(f"'-t' has no effect {'with -c' if self.mode == CONTROL else 'without -s'}")
        if self.check and self.mode == CONTROL:
            found.append("'-n' has no effect with -c")
        return found


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
