"""Clients of `run -c` in the soak: some at a time, all the time; each of them has to be answered as it should be."""

import json
import os
import random
import re
import signal
import subprocess
from collections import Counter

from services_subject import COUNT, STEADY, Services, names

AT_ONCE = 3
BY_HAND = 63
"""The signal that only clients send, and to the first service alone."""

ORDERS = ("start", "stop", "restart", "signal")
QUESTIONS = ("status", "json", "health")
REASON = re.compile(
    r"run: \[error\] n\d\d: (somebody else wants it (up|stopped)"
    r"|(exited with code \d+|killed by \w+ \(\d+\)); (next start in .+|done|ended|stopped|failed.*))\n"
)
"""Why an order may be said to be in vain."""

ILL = re.compile(r"n\d\d (is|has) [^\n]+\n")


class Steering:
    """Starts clients, and judges how they end."""

    def __init__(self, services: Services) -> None:
        """Take whom they ask."""
        self._services = services
        self._random = random.Random(12)
        self._clients: list[tuple[tuple[str, ...], subprocess.Popen[str]]] = []
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.stops = 0
        """How often a service was to be stopped, or started anew."""
        self.last_code = 0
        self.wrong: list[str] = []

    @property
    def waiting(self) -> list[str]:
        """Those who have not been answered yet, in words."""
        return [" ".join(words) for words, _ in self._clients]

    def steer(self) -> None:
        """Have as many ask as there always are."""
        while len(self._clients) < AT_ONCE:
            self.ask(*self._anything())

    def ask(self, *words: str) -> None:
        """Have somebody ask this."""
        self.asked[words[0]] += 1
        self.stops += len(words[1:]) if words[0] in ("stop", "restart") else 0
        self._clients.append((words, self._services.client(*words)))

    def take(self) -> None:
        """See who has ended."""
        ended = [(words, client) for words, client in self._clients if client.poll() is not None]
        self._clients = [(words, client) for words, client in self._clients if client.returncode is None]
        for words, client in ended:
            out, err = client.communicate()
            self.answered[words[0]] += 1
            self.last_code = client.returncode
            if not self._is_right(words, client.returncode, out, err):
                self.wrong.append(f"{' '.join(words)} was answered with {client.returncode}, {err or out!r}")

    def end(self) -> None:
        """Kill those who are left."""
        for _, client in self._clients:
            os.killpg(client.pid, signal.SIGKILL)  # nsenter(1) has a child
            client.communicate()

    def _anything(self) -> tuple[str, ...]:
        action = self._random.choice((*ORDERS, *QUESTIONS))
        if action == "signal":
            return action, str(BY_HAND), "n00"
        if action in ("status", "json"):
            return (action,)
        if action == "health":
            return self._random.choice([(action, "n00", "n01"), (action, *names())])
        some = self._random.sample(range(STEADY, COUNT), self._random.choice((1, 1, 2, 12)))
        return (action, *(f"n{number:02}" for number in some))

    def _is_right(self, words: tuple[str, ...], code: int, out: str, err: str) -> bool:
        """Whether a client may end so."""
        if words[0] == "json":
            return (code, err) == (0, "") and [json.loads(line)["name"] for line in out.splitlines()] == names()
        if words[0] == "status":  # with what a service tells of itself below its line
            told = [line[:3] for line in out.splitlines()[1:] if not line.startswith(" ")]
            return (code, err) == (0, "") and told == names()
        if words[0] == "signal" or words[1:] == ("n00", "n01"):
            return (code, out, err) == (0, "", "")
        if words[0] == "health":
            return err == "" and (code, bool(ILL.fullmatch(out))) in ((0, False), (1, True))
        lines = err.splitlines(keepends=True)
        return out == "" and code == bool(lines) and all(map(REASON.fullmatch, lines))
