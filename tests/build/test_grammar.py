"""The options as docopt's own objects, in run/cli.py, are what it makes of the grammar: the program has none read."""

import subprocess

from harness import DEADLINE
from pipeline import ROOT

GRAMMAR = """
Usage: run [-qdhvmn -s SIG -t N -u USER -f FILE -c ACTION]...

Options:
  -s SIG     signal
  -t N       seconds
  -u USER    user
  -f FILE    file of services
  -c ACTION  order
"""

SHOW = """
import sys
from docopt import formal_usage, parse_defaults, parse_pattern, printable_usage
known = parse_defaults(sys.argv[1])
print((known, parse_pattern(formal_usage(printable_usage(sys.argv[1])), known).fix()))
from run.cli import KNOWN, PATTERN
print((KNOWN, PATTERN))
"""


def test_they_are_what_docopt_makes_of_the_grammar() -> None:
    python = next(ROOT.glob(".work/static*/venv/bin/python"))  # whichever build it was, it has docopt
    words = [str(python), "-c", SHOW, GRAMMAR]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE, check=True)
    expected, actual = done.stdout.splitlines()
    assert actual == expected
