"""Output: the bytes that a service writes, cut into whole lines, each behind the service's name. No system call.

Source: contract, "Output".
"""

LONGEST_NAMED = 16 * 1024
"""Bytes of a line, without its newline, after which it goes on in another one: Docker's log cuts there."""

LONGEST_PLAIN = 1024 * 1024

COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)
"""Of names on a terminal, in turn: ECMA-48, "Select Graphic Rendition"."""


def heads(name: str, width: int, colour: int | None) -> tuple[bytes, bytes]:
    """What stands before a line of this service, and before one that goes on."""
    padded = name.ljust(width)
    first, again = f"{padded} |", f"{padded} +"
    if colour is not None:
        first, again = (f"\x1b[{colour}m{text}\x1b[0m" for text in (first, again))
    return f"{first} ".encode(), f"{again} ".encode()


class Lines:
    """One stream of a service: takes bytes as they come, and gives whole lines."""

    def __init__(self, head: bytes, again: bytes, longest: int) -> None:
        """Take what stands before a line, and before one that goes on; and the bytes after which it does."""
        self._head = head
        self._again = again
        self._longest = longest
        self._begun = b""
        """Of a line that has not ended."""
        self._goes_on = False
        """Whether that line has begun in one before."""

    def take(self, data: bytes) -> list[bytes | memoryview]:
        """Take what was read; return pieces of whole lines, to be written one after the other."""
        end = data.rfind(b"\n")
        if end < 0:
            self._begun += data
            return self._cut_begun()
        if self._has_long_line(data, end):
            return self._cut(data)
        lines, whole = data, end + 1
        if self._head:
            # The lines are copied once: the one that has only begun is in the copy, too, and left out at its end.
            lines = data.replace(b"\n", b"\n" + self._head)
            whole = len(lines) - (len(data) - end - 1) - len(self._head)
        pieces: list[bytes | memoryview] = [self._take_head(), self._begun, memoryview(lines)[:whole]]
        self._begun = data[end + 1 :]
        return pieces + self._cut_begun()

    @property
    def has_begun(self) -> bool:
        """Whether a line has begun, and not ended."""
        return bool(self._begun) or self._goes_on

    def finish(self) -> list[bytes | memoryview]:
        """End the line that has begun, if one has; return its pieces."""
        if not self.has_begun:
            return []
        begun, self._begun = self._begun, b""
        return [self._take_head(), begun, b"\n"]

    def _take_head(self) -> bytes:
        """What stands before the next line; the one after it begins anew."""
        head = self._again if self._goes_on else self._head
        self._goes_on = False
        return head

    def _has_long_line(self, data: bytes, end: int) -> bool:
        """Whether a line that ends up to here is too long; looks at few bytes where all are short."""
        begin = -len(self._begun)
        while end - begin > self._longest:
            last = data.rfind(b"\n", max(begin, 0), begin + self._longest + 1)
            if last < 0:
                return True
            begin = last + 1
        return False

    def _cut(self, data: bytes) -> list[bytes | memoryview]:
        """The pieces of lines of which some are too long."""
        pieces: list[bytes | memoryview] = []
        *lines, rest = (self._begun + data).split(b"\n")
        for line in lines:
            self._begun = line
            pieces += self._cut_begun()
            pieces += [self._take_head(), self._begun, b"\n"]
        self._begun = rest
        return [b"".join(pieces), *self._cut_begun()]

    def _cut_begun(self) -> list[bytes | memoryview]:
        """The pieces of a line that has begun and is too long; what is left of it is not."""
        begun = self._begun
        if len(begun) <= self._longest:
            return []
        pieces: list[bytes] = []
        begin = 0
        while len(begun) - begin > self._longest:
            pieces += [self._take_head(), begun[begin : begin + self._longest], b"\n"]
            begin += self._longest
            self._goes_on = True
        self._begun = begun[begin:]
        return [b"".join(pieces)]
