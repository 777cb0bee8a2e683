"""Orders: what is asked for with `-c`, decided: who is meant, what is refused, and when it is done. No system call.

Source: contract, "Control".
"""

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from run.services.life import AGAIN, DONE, DOWN, FAILED, READY, RESTARTING, UP, WAITING, Life
from run.services.values import signal_number
from run.services.words import encoded, listed, nearest, shown

WANTED = {"start": UP, "stop": DOWN, "restart": AGAIN}
"""The orders that change what is wanted, and to what."""

QUESTIONS = ("status", "json", "health")
ACTIONS = (*QUESTIONS, *WANTED, "signal")
"""All that can be asked for."""

STOPPING = "all is being stopped"

LONGEST_REQUEST = 64 * 1024
"""Bytes of a request, without the end of its line."""

MOST_UNKNOWN = 8
"""Unknown services that are named: a request may hold thousands, and looking for what is near takes its time."""


class Request(NamedTuple):
    """What a client wants."""

    action: str
    """One of ACTIONS."""
    names: Sequence[str] = ()
    """Whom it is about; none: all, for a question."""
    signum: int = 0


class RequestError(Exception):
    """What is wrong with a request: what is accepted."""


def parse(action: str, words: list[str]) -> Request:
    """What the words of the command line ask for. Raises RequestError."""
    if action not in ACTIONS:
        raise RequestError(
            f"unknown action {shown(action)}: {', '.join(ACTIONS)} are accepted{nearest(action, ACTIONS)}"
        )
    signum = 0
    if action == "signal":
        if not words:
            raise RequestError("signal needs a signal and names: 'signal HUP web' is accepted")
        signum = signal_number(words[0]) or 0
        if not signum:
            raise RequestError(
                f"unknown signal {shown(words[0])}: a name such as HUP, SIGHUP or RTMIN+1, or a number is accepted"
            )
        words = words[1:]
    if action not in QUESTIONS and not words:
        example = "signal HUP" if signum else action
        raise RequestError(f"{action} needs the name of a service: '{example} web' is accepted")
    return Request(action, list(dict.fromkeys(words)), signum)


def read(line: bytes) -> Request:
    """The request in a line of JSON, which may be anything. Raises RequestError."""
    try:
        request = json.loads(line.decode())
        action, words = request["action"], request["words"]
        encoded("".join([action, *words]))  # all of it is text; half of a surrogate pair is none
    except (ValueError, KeyError, TypeError, RecursionError):
        raise RequestError("this is no request") from None
    if not isinstance(words, list):
        raise RequestError("this is no request")
    return parse(action, words)


def refusals(request: Request, lives: Mapping[str, Life], is_stopping: bool) -> list[str]:
    """Why a request is refused, a line each; none if it is not."""
    unknown = [name for name in request.names if name not in lives]
    if unknown:
        more = [f"and {len(unknown) - MOST_UNKNOWN} more that are unknown"] if len(unknown) > MOST_UNKNOWN else []
        return [
            f"unknown service {shown(name)}: {listed(lives)} are accepted{nearest(name, lives)}"
            for name in unknown[:MOST_UNKNOWN]
        ] + more
    if request.action in QUESTIONS:
        return []
    if is_stopping:
        return [STOPPING]
    if request.action == "signal":
        return [f"{name}: not running" for name in request.names if not lives[name].has_main]
    if request.action == "stop":
        return []
    return [f"{name}: {reason}" for name in request.names for reason in _lacks(lives[name], request.names, lives)]


def _lacks(life: Life, names: Sequence[str], lives: Mapping[str, Life]) -> list[str]:
    """What a service that is to be started would wait for in vain, however far, unless it is among these names."""
    found: dict[str, None] = {}
    left = list(life.service.depends_on)
    seen = set(names)
    while left:
        other = left.pop(0)
        if other not in seen:
            seen.add(other)
            if lives[other].by_hand and lives[other].state != DONE:
                found[other] = None
            elif lives[other].state == WAITING:
                left += lives[other].service.depends_on
    return [f"it depends on {other}, which is stopped: start {other}, too" for other in found]


class Order:
    """An order that was accepted: somebody waits until it is done."""

    def __init__(self, request: Request, lives: Mapping[str, Life]) -> None:
        """Take the request before it is passed on, to know afterwards which life is a new one."""
        self._wanted = WANTED[request.action]
        self._all_lives = lives
        self._numbers = {name: lives[name].number for name in request.names}
        self._since = {name: lives[name].since for name in request.names}

    def outcome(self, is_stopping: bool) -> list[str] | None:
        """Once it is done, or cannot be: the reasons why not, a line each, none if all is well. Before: None."""
        if self._wanted != DOWN and is_stopping:
            lives = [self._all_lives[name] for name in self._numbers]
            failed = [life for life in lives if life.state == FAILED and life.since != self._since[life.service.name]]
            return [*(f"{life.service.name}: {_end_of(life)}" for life in failed), STOPPING]
        reasons = []
        for name, number in self._numbers.items():
            reason = self._outcome_of(self._all_lives[name], number)
            if reason is None:
                return None
            if reason:
                reasons.append(f"{name}: {reason}")
        return reasons

    def _outcome_of(self, life: Life, number: int) -> str | None:
        """The reason why it cannot be done, empty if it is done; None before that is known.

        number is that of the life at the time of the order.
        """
        if self._wanted == DOWN:
            if life.wanted != DOWN:
                return "somebody else wants it up"
            return "" if life.is_final else None
        if life.wanted == DOWN:
            return "somebody else wants it stopped"
        if life.state == DONE or (life.state == READY and (self._wanted == UP or life.number > number)):
            return ""
        if life.is_final or life.state == RESTARTING:  # not any more: an order ends that
            return _end_of(life)
        lacks = _lacks(life, (), self._all_lives) if life.state == WAITING else []
        return lacks[0] if lacks else None


def _end_of(life: Life) -> str:
    """How the last life of a service has ended, and what follows."""
    return f"{life.ended}; {life.verdict}" if life.verdict else life.ended
