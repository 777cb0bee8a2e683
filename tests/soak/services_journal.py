"""The log of `run` with the services of the soak, counted line by line."""

import re
from collections import Counter

LIFE = rb"(?P<service>n\d\d) \(pid \d+\)"
END = rb"(?:exited with code (?P<exited>\d+)|killed by (?:signal |[A-Z0-9+]+ \()(?P<killed>\d+)\)?)"
LINE = re.compile(
    rb"run: \[(?:info|warn)\] (?:" + LIFE + rb": (?:"
    rb"(?P<started>started /.+)|" + END + rb"(?P<verdict>; (?!others).+|; others of its process group are left)"
    rb"|its grace is over|ready, [\d.]+ s after its start"
    rb"|healthcheck failed: .+|not ready yet: .+|unhealthy after 2 failures in a row; to be restarted|healthy again)"
    rb"|pid \d+: "
    + END.replace(b"exited>", b"code>").replace(b"killed>", b"signal>")
    + rb"|forwarding (?:signal |[A-Z0-9+]+ \()(?P<forwarded>\d+)\)?(?: from pid \d+)? to n00 \(pid \d+\), "
    rb"n01 \(pid \d+\)"
    rb"|order from [^:]+: (?P<order>\w+) .+"
    rb"|(?P<other>own pid is \d+|shutdown, since TERM \(15\) has come(?: from pid \d+)?"
    rb"|forwarding CONT \(18\)(?: from pid \d+)? to nobody, since no service catches it"
    rb"|sending [A-Z]+ \(\d+\) to (?:n\d\d \(pid \d+\)|group \d+|pid \d+)"
    rb"|no process is left: exiting with code \d+))\n"
)
"""A line that `run` may write here."""

LEFT = b"; others of its process group are left"


class ServicesJournal:
    """How many lines of each kind there were."""

    def __init__(self) -> None:
        """Nothing was read yet."""
        self.lines = 0
        self.started = 0
        self.ended: Counter[int] = Counter()
        """Lives by exit code, 128 + n for signal n."""
        self.orphans: Counter[int] = Counter()
        self.forwarded: Counter[int] = Counter()
        self.orders: Counter[str] = Counter()
        self.strange: list[bytes] = []
        """Lines that are cut, mixed, or should not be there."""

    def add(self, lines: list[bytes]) -> None:
        """Count some lines."""
        self.lines += len(lines)
        for line in lines:
            match = LINE.fullmatch(line)
            if match is None:
                self.strange.append(line)
            elif match["started"]:
                self.started += 1
            elif match["verdict"]:
                if match["verdict"] != LEFT:
                    self.ended[_code(match["exited"], match["killed"])] += 1
            elif match["code"] or match["signal"]:
                self.orphans[_code(match["code"], match["signal"])] += 1
            elif match["forwarded"]:
                self.forwarded[int(match["forwarded"])] += 1
            elif match["order"]:
                self.orders[match["order"].decode()] += 1


def _code(exited: bytes | None, killed: bytes | None) -> int:
    return 128 + int(killed) if killed else int(exited or 0)
