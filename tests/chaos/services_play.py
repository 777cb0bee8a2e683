"""A play of the chaos tests of services: after each happening all that can be seen has to be what the model says."""

import json
import signal
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

from harness import DEADLINE, Starter
from services_lives import TERM
from services_model import Model
from services_script import text_of
from services_stage import ServicesStage
from services_world import COMMON, DONE, FINAL, LINGERING, NEVER, READY, Member, Service, Spec, Words

LONG_LIFE = 8.0
"""Seconds before a life lasts so long that restarts are counted anew: no example takes that, but on a bad day."""


class TooSlowError(Exception):
    """So much time has passed that the model does not hold any more."""


class ServicesPlay:
    """Real services, and the model of them."""

    patience: ClassVar[float] = DEADLINE
    """Seconds to wait for what must come. Once that was in vain, a smaller example should not take as long to fail."""

    def __init__(self, start: Starter, puppet: Path, folder: Path, specs: Mapping[str, Spec], grace: float) -> None:
        """Start them, and see that all is as it should be then; grace is the common one, in seconds."""
        self.model = Model(specs, grace)
        self.story: list[str] = []
        self._begun = time.monotonic()
        self.stage = ServicesStage(start, puppet, folder, specs, grace)
        self._deed_at = time.monotonic_ns()
        """When the last thing was done, before it was."""
        self._compare()

    @property
    def is_over(self) -> bool:
        """Whether `run` has ended."""
        return self.model.seen.code is not None

    def do(self, thing: Words) -> None:
        """Have something happen, if it can, and compare."""
        if time.monotonic() > self._begun + LONG_LIFE:
            raise TooSlowError
        verb, *words = thing
        deed = getattr(self, f"_{verb.replace(' ', '_')}")
        before = len(self.story)
        self._deed_at = time.monotonic_ns()
        answer = deed(*words)
        if len(self.story) > before:
            self._compare()
        if answer is not None:
            self._compare_answer(*answer)

    def finish(self) -> None:
        """Stop what is left by TERM; then look whether everything came in its order."""
        if not self.is_over:
            self.story.append("TERM to run")
            self._deed_at = time.monotonic_ns()
            self.model.is_sent(TERM)
            self.stage.started.send(TERM)
            self._compare()
        self._check_order()
        self._check_delays()
        self._check_grace()

    # -- Happenings ---------------------------------------------------------------------------------------------------

    def _exit(self, who: int, code: int) -> None:
        if service := self._one(who, lambda s: s.has_main and (code or not s.workers or s.spec.kill_mode == "group")):
            self.story.append(f"{service.name} exits with {code}")
            self.stage.tell(service.main, f"exit {code}")
            self.model.ends(service.name, code)

    def _kill(self, who: int, signum: int) -> None:
        if service := self._one(who, lambda s: s.has_main):
            self.story.append(f"{service.name} is sent {signal.Signals(signum).name}")
            self.stage.kill(service.main, signum)
            self.model.ends(service.name, -signum)

    def _raise(self, who: int, signum: int) -> None:
        if service := self._one(who, lambda s: s.has_main):
            self.story.append(f"{service.name} dies of {signal.Signals(signum).name}")
            self.stage.tell(service.main, f"raise {signum}")
            self.model.ends(service.name, -signum)

    def _worker(self, who: int, kind: str) -> None:
        if service := self._one(who, lambda s: s.has_main):
            member = self.model.has_worker(service.name, kind)
            self.story.append(f"{service.name} has {kind} {member.number}")
            self.stage.tell(service.main, kind)

    def _worker_exits(self, who: int, code: int) -> None:
        if member := self._one_worker(who):
            self.story.append(f"{member.kind} {member.number} of {member.name} exits with {code}")
            self.stage.tell(member, f"exit {code}")
            self.model.worker_ends(member, code)

    def _write(self, who: int, stream: int, text: Words) -> None:
        if service := self._one(who, lambda s: s.has_main):
            self._writes(service.main, stream, text)

    def _worker_writes(self, who: int, stream: int, text: Words) -> None:
        member = self._one_worker(who)
        if member and member.kind == "worker":
            self._writes(member, stream, text)

    def _writes(self, member: Member, stream: int, text: Words) -> None:
        whole = text_of(member.name, text, self.model.services[member.name].spec.output)
        self.story.append(f"{member.kind} of {member.name} writes to {stream}: {text[1:]}")
        self.model.writes(member.name, stream, whole)
        if text[0] == "many":
            self.stage.tell(member, f"fill {stream} {text[1]} {member.name}")
            if text[2]:
                self._compare_when(lambda: not self.stage.puppets[member].is_busy)
                self.stage.tell(member, f"write {stream} \n")
        else:
            self.stage.tell(member, f"write {stream} {whole}")

    def _last_words(self, who: int, code: int, text: str) -> None:
        if service := self._one(who, lambda s: s.has_main and not s.workers):
            whole = text_of(service.name, ("words", text), service.spec.output)
            self.story.append(f"{service.name} writes {text!r} and exits with {code}")
            self.model.writes(service.name, 1, whole)
            self.stage.tell(service.main, f"last 1 {code} {whole}")
            self.model.ends(service.name, code)

    def _ready(self, who: int) -> None:
        if service := self._one(who, lambda s: s.spec.check == "test" or (s.spec.check == "notify" and s.has_main)):
            self.story.append(f"{service.name} is well")
            if service.spec.check == "test":
                self.stage.show(service.name, well=True)
            else:
                self.stage.tell(service.main, "notify")
            self.model.is_ready(service.name)

    def _ill(self, who: int) -> None:
        if service := self._one(who, lambda s: s.spec.check == "test"):
            self.story.append(f"{service.name} is ill")
            self.stage.show(service.name, well=False)
            self.model.is_ill(service.name)

    def _signal_run(self, signum: int) -> None:
        self.story.append(f"{signal.Signals(signum).name} to run")
        self.stage.started.send(signum)
        self.model.is_sent(signum)

    def _order(self, action: str, who: list[int]) -> tuple[socket.socket, int | None]:
        everybody = list(self.model.services)
        names = tuple(dict.fromkeys(everybody[number % len(everybody)] for number in who))
        names = names[:1] if action == "signal" else names
        self.story.append(f"order: {action} {' '.join(names)}")
        code = self.model.is_ordered(action, names)
        return self.stage.order(action, names), code

    def _one(self, who: int, can: Callable[[Service], object]) -> Service | None:
        """One of those for whom it can happen."""
        fit = [service for service in self.model.services.values() if can(service)]
        return fit[who % len(fit)] if fit else None

    def _one_worker(self, who: int) -> Member | None:
        """A worker, or who is apart and whose main process is gone: who is its parent's business does not matter."""
        services = self.model.services.values()
        fit = [member for service in services for member in service.workers]
        fit += [member for member in self.model.apart if member.kind == "apart"]
        return fit[who % len(fit)] if fit else None

    # -- Comparing ----------------------------------------------------------------------------------------------------

    def _compare(self) -> None:
        """Wait until nothing moves; then all that is seen has to be what the model says."""
        self._compare_when(lambda: self._is_foreseen() and self.stage.is_at_rest())
        seen, sure, maybe = self.stage.orphans, self.model.orphans.sure, self.model.orphans.maybe
        if not self._is_foreseen():
            raise self._failure("after all was at rest something happened")
        if self.is_over and not (sure <= seen <= sure + maybe):
            raise self._failure(f"of orphans {seen} were reaped, though there were {sure}, and perhaps {maybe}")

    def _is_foreseen(self) -> bool:
        return self.model.settled(self.stage.look()) == self.model.settled(self.model.seen)

    def _compare_when(self, condition: Callable[[], object]) -> None:
        end = time.monotonic() + ServicesPlay.patience
        while not condition():
            self.stage.look()
            if time.monotonic() > end:
                raise self._failure("the model says otherwise")
            time.sleep(0.001)

    def _compare_answer(self, connection: socket.socket, code: int | None) -> None:
        """What an order was answered with; None: nothing yet, and nobody waits for it any longer."""
        data = b""
        with connection:
            if code is None:
                connection.setblocking(False)
            else:
                connection.settimeout(ServicesPlay.patience)
            try:
                while more := connection.recv(4096):
                    data += more
            except (BlockingIOError, TimeoutError, ConnectionResetError):
                pass
        codes = [answer["code"] for answer in map(json.loads, data.splitlines()) if "code" in answer]
        if codes != [code] * (code is not None):
            raise self._failure(f"the order was answered with {data!r}, not with {code}")

    def _failure(self, what: str) -> AssertionError:
        """What is wrong, what has happened so far, and how things are now. From now on less time is given."""
        ServicesPlay.patience = 3.0
        model, seen = self.model.seen, self.stage.look()
        parts = [what, *(f"{name}: {spec}" for name, spec in self.stage.specs.items())]
        parts += [f"  {number}. {deed}" for number, deed in enumerate(self.story)]
        for name in ("log", "of", "alive", "got", "lines", "code"):
            foreseen, there = getattr(model, name), getattr(seen, name)
            if foreseen != there:
                parts.append(
                    f"{name}: the model foresees\n     {str(foreseen)[:2000]}\nbut there is\n     {str(there)[:2000]}"
                )
        log = "\n".join(line[:200] for line in self.stage.started.log().splitlines())
        return AssertionError("\n".join([*parts, "log:", log]))

    # -- What holds for the whole -------------------------------------------------------------------------------------

    def _check_order(self) -> None:
        """Nobody starts before what it depends on is ready, or is stopped with all before its dependents are gone."""
        state: dict[str, str] = {}
        is_stopping = False
        for name, what in self.stage.history:
            is_stopping = is_stopping or what.startswith("shutdown")
            if not name:
                continue
            service = self.model.services[name]
            if what == "started":
                late = [other for other in service.spec.depends_on if state.get(other) not in (READY, DONE, LINGERING)]
                if late:
                    raise self._failure(f"{name} was started before {late[0]} was ready")
                state[name] = "up" if service.spec.check or service.spec.oneshot else READY
            elif what == "ready":
                state[name] = READY
            elif what.startswith("sending ") and not what.startswith("sending KILL") and is_stopping:
                alive = [s.name for s in self.model.dependents(service) if state.get(s.name) in ("up", READY)]
                if alive and not self._is_late_enough(service):
                    raise self._failure(f"{name} was stopped before {alive[0]} was gone")
            elif "; " in what and "others of its" not in what and "to be restarted" not in what:
                state[name] = DONE if what.endswith("; done") else FINAL[1]

    def _is_late_enough(self, service: Service) -> bool:
        """Whether two thirds of the common grace were over when a service got its stop signal."""
        stage, life = self.stage, (service.name, service.life)
        times = [at for (member, n), at in stage.got_at.items() if n == service.spec.stop_signal and member[:2] == life]
        times += [at for member, at in stage.died_at.items() if member[:2] == life]
        return (
            self.model.is_killing and min(at for at in times if at >= self._deed_at) >= self._deed_at + COMMON * 2e9 / 3
        )

    def _check_grace(self) -> None:
        """Nobody is killed before the common grace is over."""
        for member in self.model.killed:
            if self.stage.died_at[member] < self._deed_at + COMMON * 1e9:
                raise self._failure(f"{member} was killed before the common grace was over")

    def _check_delays(self) -> None:
        """No life begins before its delay is over, which doubles."""
        for name, service in self.model.services.items():
            lives = [what for who, what in self.stage.history if who == name]
            ends = [what for what in lives if what.startswith(("exited", "killed")) and "others of" not in what]
            for number, what in enumerate(ends, 1):
                _, found, rest = what.partition("; next start in ")
                delay = float(rest.partition(" s")[0]) if found else 0.0
                before, after = Member(name, number, "main"), Member(name, number + 1, "main")
                if 0 < delay < NEVER and after in self.stage.begun:
                    waited = (self.stage.begun[after] - self.stage.last[before]) / 1e9
                    if waited < delay:
                        raise self._failure(
                            f"life {number + 1} of {service.name} began after {waited} s, not {delay} s"
                        )
