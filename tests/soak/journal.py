"""The log of `run`, counted line by line."""

import re
from collections import Counter

LINE = re.compile(
    rb"run: \[info\] (?:"
    rb"pid \d+: (?:(?P<exited>exited with code )|(?:(?P<killed>killed)|(?P<stopped>stopped)) by \w+ \()(?P<n>\d+)\)?"
    rb"|forwarding (?:signal |[A-Z0-9+]+ \()(?P<signal>\d+)\)?(?: from pid \d+)? to .+"
    rb"|(?P<other>own pid is \d+|pid \d+: started .+|no process is left: .+))\n"
)
"""A line that `run` may write here."""


class Journal:
    """How many lines of each kind there were."""

    def __init__(self) -> None:
        """Nothing was read yet."""
        self.lines = 0
        self.ended: Counter[int] = Counter()
        """Processes by exit code, 128 + n for signal n."""
        self.stopped = 0
        self.forwarded: Counter[int] = Counter()
        self.strange: list[bytes] = []
        """Lines that are cut, mixed, or should not be there."""
        self._rest = b""

    def add(self, data: bytes) -> None:
        """Count what was read from stderr."""
        lines = (self._rest + data).splitlines(keepends=True)
        self._rest = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
        self.lines += len(lines)
        for line in lines:
            match = LINE.fullmatch(line)
            if match is None:
                self.strange.append(line)
            elif match["signal"]:
                self.forwarded[int(match["signal"])] += 1
            elif match["exited"]:
                self.ended[int(match["n"])] += 1
            elif match["killed"]:
                self.ended[128 + int(match["n"])] += 1
            elif match["stopped"]:
                self.stopped += 1
