"""A stand-in for `re` that docopt gets where there is no snapshot: with its expressions compiled. Used by freeze.py.

docopt uses a few regular expressions to read its grammar, which never changes. Python's own `re` compiles them, for
which it needs enumerations, caches and some more modules: with it at the start of each process LINK=staticx takes
10.9 MB of private memory, more than the 10 MB that are its limit, and 9.3 MB without. What is imported later, by
services, gets Python's own.
"""

import re
from typing import Any
from unittest.mock import patch

from docopt import docopt

from run.cli import GRAMMAR

NAME = "run.docopt_re"
"""Of the stand-in; main.c lets docopt find it as `re`."""

SOURCE = '''\
"""What docopt uses of `re`, with the expressions compiled when the program was built."""

import _sre

I = {ignore_case}
COMPILED = {compiled}
TEMPLATES = {templates}


def _pattern(expression, flags=0):
    flags, code, groups, names, indices = COMPILED[expression, flags]
    return _sre.compile(expression, flags, list(code), groups, dict(names), indices)


def findall(expression, string, flags=0):
    return _pattern(expression, flags).findall(string)


def split(expression, string):
    return _pattern(expression).split(string)


def sub(expression, template, string):
    parts = TEMPLATES[template]
    return _pattern(expression).sub(lambda m: "".join(m[p] if p.__class__ is int else p for p in parts), string)
'''
"""Only what docopt calls; anything else fails when the program is built, where every call is tried."""


class Recorder:
    """In the place of `re` for docopt: does what `re` does, and takes down what for."""

    I = re.I  # noqa: E741 - that is its name

    def __init__(self) -> None:
        """Nothing was called yet."""
        self.expressions: dict[tuple[str, int], None] = {}
        self.templates: dict[str, tuple[str | int, ...]] = {}

    def findall(self, expression: str, string: str, flags: int = 0) -> list[Any]:
        """Do what `re` does."""
        self.expressions[expression, int(flags)] = None
        return re.findall(expression, string, flags)

    def split(self, expression: str, string: str) -> list[str | Any]:
        """Do what `re` does."""
        self.expressions[expression, 0] = None
        return re.split(expression, string)

    def sub(self, expression: str, template: str, string: str) -> str:
        """Do what `re` does."""
        self.expressions[expression, 0] = None
        self.templates[template] = template_parts(template)
        return re.sub(expression, template, string)


def template_parts(template: str) -> tuple[str | int, ...]:
    r"""What a template of re.sub() consists of: text, and the numbers of groups. It may have no escape but \1 to \9."""
    parts = re.split(r"\\([1-9])", template)
    if any("\\" in text for text in parts[::2]):
        raise SystemExit(f"docopt replaces by {template!r}, which this build cannot do")
    return tuple(int(part) if place % 2 else part for place, part in enumerate(parts) if part)


def compiled(expression: str, flags: int) -> tuple[Any, ...]:
    """What `re` gives to the function that makes a pattern of an expression, but for the expression."""
    with patch("re._compiler._sre.compile") as compile_code:
        re._compiler.compile(expression, flags)  # type: ignore[attr-defined]
    _, all_flags, code, groups, names, indices = compile_code.call_args.args
    return int(all_flags), tuple(map(int, code)), groups, tuple(names.items()), indices


def source() -> str:
    """The module's source text, with all that docopt needs for the grammar of run.cli."""
    recorder = Recorder()
    with patch("docopt.re", recorder):
        docopt(GRAMMAR, [], help=False)
    table = {key: compiled(*key) for key in recorder.expressions}
    return SOURCE.format(ignore_case=int(re.I), compiled=table, templates=recorder.templates)
