"""The log: one line per event on stderr, each a single write(2), which never blocks `run`.

Source: contract, "Log". A line that cannot be written at once is dropped.
"""

from run.descriptors import STDERR
from run.outlet import Outlet
from run.text import LONGEST


class Log:
    """Lines on stderr, from a level on."""

    def __init__(self, quiet: int = 0) -> None:
        """Count `-q` in quiet: 0 shows all, 1 drops info, more drops warnings too."""
        self._quiet = quiet
        self._outlet = Outlet(STDERR)
        self._was_cut = False
        self._complaints: set[str] = set()

    @property
    def fd(self) -> int | None:
        """The descriptor of our own that lines go to, if one was opened; the command does not inherit it."""
        return self._outlet.own

    @property
    def shows_info(self) -> bool:
        """Whether lines of the lowest level are shown: where not, they need not be made."""
        return self._quiet < 1

    def info(self, message: str) -> None:
        """Say what happens."""
        if self._quiet < 1:
            self._say("info", message)

    def warn(self, message: str) -> None:
        """Say what a user should look at."""
        if self._quiet < 2:
            self._say("warn", message)

    def error(self, message: str) -> None:
        """Say why `run` or the command cannot start, or fails."""
        self._say("error", message)

    def complain(self, message: str) -> None:
        """Say what has failed and does not end `run`: once, since it may fail again and again."""
        if message not in self._complaints:
            self._complaints.add(message)
            self.error(f"{message}; going on as well as possible")

    def _say(self, level: str, message: str) -> None:
        line = f"run: [{level}] {message}\n".encode()
        if len(line) > LONGEST:
            whole = line[: LONGEST - 4].decode("utf-8", "ignore")  # no half of a character
            line = f"{whole}...\n".encode()
        self.write(line)

    def write(self, line: bytes) -> None:
        """Write a line, or drop it."""
        if self._was_cut:
            line = b"\n" + line
        try:
            written = self._outlet.write(line)
        except OSError:
            return  # closed, broken, full or not being read: the line is dropped
        if written:
            self._was_cut = written < len(line)
