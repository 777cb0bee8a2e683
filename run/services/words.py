"""Words: a command line split as a POSIX shell splits it, variables put into words, and words as messages show them.

Source: contract, "The file". shlex does the splitting; what it does not know (operators, and all of a backslash's
meanings) is looked for before, since it drops the quotes. Newlines are blanks, and `#` is an ordinary character.
"""

import re
import shlex
from collections.abc import Iterable, Mapping

from run.text import printable

OPERATORS = "|&;<>"
PIECE = re.compile(r"""'[^']*'|"[^"\\]*(?:\\.[^"\\]*)*"|\\.|[|&;<>]+|[^'"\\|&;<>]+|.""", re.DOTALL)
ESCAPED = re.compile(r"\\(.)", re.DOTALL)

VARIABLE = re.compile(r"\$\$|\$\{([A-Za-z_][A-Za-z0-9_]*)(\}|:-)|\}|[^$}]+|\$")

LONGEST_SHOWN = 120
"""Characters of a word that a message shows."""

MOST_LISTED = 12
"""Words of a list that a message shows."""


class WordsError(Exception):
    """A command line that cannot be split: what is wrong, and what is accepted."""


def split(line: str) -> list[str]:
    """The words of a command line. Raises WordsError.

    Source: POSIX, Shell Command Language, "Quoting" and "Token Recognition".
    """
    pieces = []
    for match in PIECE.finditer(line):
        piece = match[0]
        if piece[0] in OPERATORS:
            raise WordsError(f"'{piece}' is an operator of a shell: use sh -c, or quote it where it is part of a word")
        if piece in ("'", '"'):
            raise WordsError(f"a quote {piece} is not closed: a second one is needed")
        if piece == "\\":
            raise WordsError("a backslash is the last character: one more character is needed, or a second backslash")
        if piece[0] == '"':
            piece = ESCAPED.sub(_unescaped, piece)
        if piece != "\\\n":  # a line that goes on
            pieces.append(piece)
    lexer = shlex.shlex("".join(pieces), posix=True)
    lexer.whitespace = " \t\n"
    lexer.whitespace_split = True
    lexer.commenters = ""
    return list(lexer)


def _unescaped(match: re.Match[str]) -> str:
    """What shlex is to see of a backslash and a character in double quotes: it knows but two of POSIX's five."""
    character = match[1]
    if character == "\n":
        return ""
    return character if character in "$`" else match[0]


def substitute(text: str, variables: Mapping[str, str], missing: list[str]) -> str:
    """Put in the values of `${NAME}` and `${NAME:-default}`, and `$` for `$$`; any other `$` stays.

    A default may hold variables itself, as in Compose. A name that is not set and has no default is added to missing,
    and stays as it is.
    """
    opened: list[tuple[str, list[str], list[str]]] = []  # name, and what was before: the pieces, and what was missing
    pieces: list[str] = []
    lacking: list[str] = []
    for match in VARIABLE.finditer(text):
        name, end = match[1], match[2]
        if end == ":-":
            opened.append((name, pieces, lacking))
            pieces, lacking = [], []
        elif end == "}":
            if name not in variables:
                lacking.append(name)
            pieces.append(variables.get(name, match[0]))
        elif match[0] == "}" and opened:
            default, lacking_in_default = "".join(pieces), lacking
            name, pieces, lacking = opened.pop()
            if value := variables.get(name):
                pieces.append(value)
            else:
                pieces.append(default)
                lacking += lacking_in_default
        else:
            pieces.append("$" if match[0] == "$$" else match[0])
    while opened:  # never closed: it stays
        rest, lacking_in_rest = pieces, lacking
        name, pieces, lacking = opened.pop()
        pieces += ["${", name, ":-", *rest]
        lacking += lacking_in_rest
    missing += lacking
    return "".join(pieces)


def encoded(text: str) -> bytes:
    """The bytes of a text of the file, or of one that came from bytes by surrogateescape (PEP 383)."""
    return text.encode("utf-8", "surrogateescape")


def decoded(word: bytes) -> str:
    """The text of bytes that may be any: encoded() gives them back."""
    return word.decode("utf-8", "surrogateescape")


def shown(text: str) -> str:
    """A text as it may stand in a message: in quotes, printable, and not too long."""
    return f"'{printable(encoded(text[:LONGEST_SHOWN]))}{'...' if len(text) > LONGEST_SHOWN else ''}'"


def listed(accepted: Iterable[str]) -> str:
    """Words that are accepted, as a message lists them: not too many."""
    words = list(accepted)
    more = f" and {len(words) - MOST_LISTED} more" if len(words) > MOST_LISTED else ""
    return ", ".join(words[:MOST_LISTED]) + more


def nearest(word: str, accepted: Iterable[str]) -> str:
    """The end of a message: which accepted word is nearest to a wrong one; nothing where none is near."""
    if len(word) > LONGEST_SHOWN:
        return ""
    import difflib  # noqa: PLC0415 - only a mistake needs it

    lower = {other.lower(): other for other in accepted}
    found = difflib.get_close_matches(word.lower(), lower, 1)
    return f"; the nearest is '{lower[found[0]]}'" if found else ""
