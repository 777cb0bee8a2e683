"""Text: words of a command line, which are bytes of any kind, as they may stand in a line of the log."""

LONGEST = 4096
"""Bytes in a line: PIPE_BUF of pipe(7), up to which a write is not mixed with those of others."""


def printable(word: bytes) -> str:
    """A word of the command line as it may stand in a line of the log: no control character, no newline."""
    text = word.decode("utf-8", "surrogateescape")
    return text if text.isprintable() else "".join(_escaped(c) for c in text)


def shown(words: list[bytes]) -> str:
    """The words of a command line as they may stand in a line of the log: not more of them than a line holds."""
    parts: list[str] = []
    left = LONGEST
    for word in words:
        if left <= 0:
            break
        parts.append(printable(word[:LONGEST]))
        left -= len(parts[-1]) + 1
    return " ".join(parts)


def _escaped(character: str) -> str:
    """A character as it may stand in the log; one that stands for a byte that is not UTF-8 (PEP 383) as that byte."""
    if 0xDC80 <= ord(character) <= 0xDCFF:
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character if character.isprintable() else ascii(character)[1:-1]
