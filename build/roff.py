"""Texts as roff takes them, for the manual pages: groff_man(7)."""

import re
import textwrap

WIDTH = 78
"""Of a line of the source."""

SPECIAL = str.maketrans({"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti"})
"""What would not be shown as it is."""

KEPT = "\0"
"""A blank at which no line is broken."""


def escaped(text: str, font: str = "I") -> str:
    """A line of text, whose words in backquotes are in this font."""
    return re.sub(r"`([^`]*)`", rf"\\f{font}\1\\fR", text.replace("\\", "\\e").replace("-", "\\-"))


def prose(text: str) -> str:
    """A paragraph, with words in backquotes bold: each sentence begins a line, and no line begins like a request."""
    text = re.sub(r"`[^`]*`", lambda code: code[0].replace(" ", KEPT), text)
    lines: list[str] = []
    for sentence in re.split(r"(?<=\.) ", text):
        marked = escaped(sentence, "B").replace("'", "\\(aq")
        lines += textwrap.wrap(marked, WIDTH, break_long_words=False, break_on_hyphens=False)
    return "".join(("\\&" if line.startswith(".") else "") + line.replace(KEPT, " ") + "\n" for line in lines)


def example(text: str, indent: str = "") -> str:
    """Lines that are shown as they are."""
    lines = text.strip("\n").translate(SPECIAL).splitlines()
    body = "".join(("\\&" if line.startswith(".") else "") + line + "\n" for line in lines)
    return f".RS {indent}".rstrip() + f"\n.EX\n{body}.EE\n.RE\n"
