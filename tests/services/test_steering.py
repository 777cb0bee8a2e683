"""Random orders, crashes and healthchecks, all at once: what becomes of them, without a process.

Contract, "Ready and healthy" and "Control". The world does what the manager wants, asks as health says, and gives
orders as people do. What has to hold is said of the answers: nobody is told that something is done which is not, nobody
waits for ever, and nobody is ready who has not shown it.
"""

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from run.services import health as decided
from run.services import status
from run.services.health import Health
from run.services.healthcheck import Healthcheck
from run.services.life import (
    DONE,
    DOWN,
    FAILED,
    FINAL,
    LATE,
    READY,
    RESTARTING,
    SUCCEEDED,
    UNHEALTHY,
    UP,
    WAITING,
    Life,
)
from run.services.manager import Kill, Manager, Start, Stop
from run.services.orders import WANTED, Order, Request, refusals
from run.services.plan import Plan, Service

NAMES = "abcd"


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """A few services, most of them with a healthcheck, each depending on some that come before it."""
    services = []
    for number, name in enumerate(NAMES[: draw(st.integers(1, len(NAMES)))]):
        oneshot = draw(st.booleans())
        check = Healthcheck(
            "test",
            interval=draw(st.sampled_from([0.5, 2.0])),
            timeout=draw(st.sampled_from([0.3, 5.0])),
            retries=draw(st.integers(1, 3)),
            start_period=draw(st.sampled_from([1.0, 4.0])),
            start_interval=draw(st.sampled_from([0.2, 1.0])),
        )
        keys: dict[str, Any] = {
            "oneshot": oneshot,
            "essential": draw(st.booleans()),
            "restart": draw(st.sampled_from(["no", "on-failure"] if oneshot else ["no", "on-failure", "always"])),
            "restart_limit": draw(st.sampled_from([None, 1])),
            "depends_on": tuple(sorted(draw(st.sets(st.sampled_from(NAMES[:number]))))) if number else (),
            "stop_grace_period": draw(st.sampled_from([None, 1.0])),
            "healthcheck": None if oneshot or draw(st.booleans()) else check,
            "on_unhealthy": draw(st.sampled_from(["log", "restart"])),
        }
        services.append(Service(name, [b"command"], [], **keys))
    return Plan(tuple(services), draw(st.sampled_from([None, 6.0])))


class Client:
    """Somebody who has given an order, and waits."""

    def __init__(self, request: Request, lives: dict[str, Life]) -> None:
        """Take it, before it is passed on."""
        self.request = request
        self.order = Order(request, lives)
        self.numbers = {name: lives[name].number for name in request.names}
        self.lived = {name for name in request.names if lives[name].lives}


class Steering(RuleBasedStateMachine):
    """Services, and those who look at them and steer them."""

    @initialize(plan=plans())
    def all_are_to_be_started(self, plan: Plan) -> None:
        """The beginning."""
        self.manager = Manager(plan)
        self.lives = self.manager.lives
        self.health = {s.name: Health(s.healthcheck) for s in plan.services if s.healthcheck}
        self.followed: set[str] = set()
        self.probed: set[str] = set()
        self.has_succeeded: set[str] = set()
        self.clients: list[Client] = []
        self.now = 100.0
        self.pid = 1
        self.settle()

    # The world: what run.services.supervisor and run.services.checks do.

    def settle(self) -> None:
        """Do what is due, and then answer."""
        for _ in range(50):
            was_due = self.ask()
            actions = self.manager.actions(self.now)
            for action in actions:
                match action:
                    case Start(name):
                        self.pid += 1
                        self.manager.executed(name, self.pid, self.now)
                        self.has_succeeded.discard(name)
                    case Stop(name) | Kill(name):
                        assert self.lives[name].lives
                self.follow()
            if self.manager.is_over or not (actions or was_due):
                break
        self.answer()

    def follow(self) -> None:
        """Lives begin and end, for health."""
        for name, health in self.health.items():
            life = self.lives[name]
            is_alive = life.lives and not life.is_stopping
            if is_alive and name not in self.followed:
                self.followed.add(name)
                health.began(self.now)
            elif not is_alive and name in self.followed:
                self.followed.remove(name)
                self.probed.discard(name)
                health.ended()

    def ask(self) -> bool:
        """Probes begin, and are given up; say whether anything was due."""
        self.follow()
        found = {name: self.health[name].due(self.now) for name in sorted(self.followed)}
        for name, due in found.items():
            if due == decided.PROBE:
                assert name not in self.probed and not self.lives[name].is_stopping
                self.probed.add(name)
            elif due == decided.GIVE_UP:
                self.probed.remove(name)
                self.failed(name)
            elif due == LATE:
                assert name not in self.has_succeeded
                self.manager.shown(name, LATE, self.now)
        return any(found.values())

    def failed(self, name: str) -> None:
        """A probe has failed."""
        restarts = self.lives[name].service.on_unhealthy == "restart"
        if self.health[name].failed("why") == UNHEALTHY and restarts:
            self.manager.shown(name, UNHEALTHY, self.now)

    def answer(self) -> None:
        """Tell those whose order is done, or cannot be."""
        for client in tuple(self.clients):
            reasons = client.order.outcome(self.manager.is_stopping)
            if reasons is not None:
                self.clients.remove(client)
                self.check(client, reasons)

    def check(self, client: Client, reasons: list[str]) -> None:
        """Whether an answer is true."""
        names, action = client.request.names, client.request.action
        if action != "stop" and self.manager.is_stopping:
            failed, last = reasons[:-1], reasons[-1]
            assert last == "all is being stopped"
            for name in (reason.partition(": ")[0] for reason in failed):
                assert self.lives[name].state == FAILED and name in names
            return
        told = {reason.partition(": ")[0] for reason in reasons}
        assert told <= set(names)
        for name in told:
            is_new = self.lives[name].number > client.numbers[name]
            assert is_new or self.lives[name].state != RESTARTING or name in client.lived, "it was not even tried"
        for name in set(names) - told:
            life = self.lives[name]
            if action == "stop":
                assert life.state in FINAL and (life.by_hand or self.manager.is_stopping)
                continue
            assert life.state in (READY, DONE)
            assert name not in self.health or name in self.has_succeeded
            if action == "restart":
                assert life.number > client.numbers[name], "it is the old life"

    # What happens.

    @precondition(lambda self: any(life.has_main for life in self.lives.values()))
    @rule(data=st.data(), code=st.sampled_from([0, 0, 1, 143]), at_once=st.booleans())
    def a_main_process_ends(self, data: st.DataObject, code: int, at_once: bool) -> None:
        """Its group is gone, too, or not yet."""
        name = data.draw(st.sampled_from([n for n, life in self.lives.items() if life.has_main]))
        self.manager.main_ended(name, code << 8, self.now)
        self.follow()
        if at_once:
            self.manager.over(name, self.now)
        self.settle()

    @precondition(lambda self: any(life.lives and not life.has_main for life in self.lives.values()))
    @rule(data=st.data())
    def a_group_is_gone(self, data: st.DataObject) -> None:
        """After its main process."""
        name = data.draw(st.sampled_from([n for n, life in self.lives.items() if life.lives and not life.has_main]))
        self.manager.over(name, self.now)
        self.settle()

    @precondition(lambda self: self.probed)
    @rule(data=st.data(), success=st.booleans())
    def a_probe_ends(self, data: st.DataObject, success: bool) -> None:
        """Well or badly."""
        name = data.draw(st.sampled_from(sorted(self.probed)))
        self.probed.remove(name)
        if not success:
            self.failed(name)
        elif self.health[name].succeeded(self.now) == SUCCEEDED:
            self.has_succeeded.add(name)
            self.manager.shown(name, SUCCEEDED, self.now)
        self.settle()

    @rule(seconds=st.sampled_from([0.1, 0.5, 2.0, 7.0]))
    def time_passes(self, seconds: float) -> None:
        """All are asked when they want to be."""
        until = self.now + seconds
        for _ in range(200):
            waits = [self.manager.timeout(self.now)]
            waits += [then - self.now for name in self.followed if (then := self.health[name].next_time()) is not None]
            due = min((wait for wait in waits if wait is not None), default=None)
            if due is None or self.now + due > until or self.manager.is_over:
                break
            self.now += max(0.0, due)
            self.settle()
        self.now = until
        self.settle()

    @rule(data=st.data(), action=st.sampled_from(sorted(WANTED)))
    def somebody_gives_an_order(self, data: st.DataObject, action: str) -> None:
        """For one service or several; and waits."""
        names = tuple(data.draw(st.lists(st.sampled_from(sorted(self.lives)), min_size=1, max_size=3, unique=True)))
        request = Request(action, names)
        refused = refusals(request, self.lives, self.manager.is_stopping)
        if refused:
            assert self.manager.is_stopping or all("which is stopped" in reason for reason in refused)
            return
        self.clients.append(Client(request, self.lives))
        given_at = self.now + 0.001  # a moment after this turn has begun
        for name in names:
            self.manager.order(name, WANTED[action], given_at)
        self.answer()  # others may have to be started first
        self.settle()
        self.now = given_at
        self.settle()

    @rule()
    def term_comes(self) -> None:
        """From outside."""
        self.manager.stop_all("TERM", self.now)
        self.settle()

    # What holds always.

    @invariant()
    def nobody_waits_for_what_nothing_leads_to(self) -> None:
        """Who waits does so for a service that is on its way: it is to end, it starts, or it waits for such a one."""
        for client in self.clients:
            assert any(self.is_on_its_way(name, client.request.action) for name in client.request.names), client.request

    def is_on_its_way(self, name: str, action: str) -> bool:
        """Whether something is to happen to a service without another order."""
        life = self.lives[name]
        if action == "stop":
            return life.lives
        if life.state == WAITING:
            others = [self.lives[other] for other in life.service.depends_on]
            return any(other.lives or other.state in (WAITING, RESTARTING) for other in others)
        return life.lives and (life.state != READY or life.wanted != UP)

    @invariant()
    def who_is_stopped_by_hand_does_not_start(self) -> None:
        """Until somebody wants it up."""
        for life in self.lives.values():
            if life.by_hand:
                assert life.wanted == DOWN
                assert life.state in FINAL or life.lives

    @invariant()
    def nobody_is_ready_without_having_shown_it(self) -> None:
        """And who is well has no ailment."""
        for name, life in self.lives.items():
            health = self.health.get(name)
            if life.state == READY and health:
                assert name in self.has_succeeded
                assert health.state in (decided.HEALTHY, decided.SICK)
            ailment = status.ailment(life, health)
            is_well = life.state == DONE or (life.state == READY and (not health or health.state == decided.HEALTHY))
            assert (ailment == "") == is_well, ailment

    @invariant()
    def only_those_are_probed_that_run_and_are_not_being_stopped(self) -> None:
        """One probe at a time."""
        for name in self.probed:
            assert self.lives[name].lives and not self.lives[name].is_stopping

    @invariant()
    def what_is_told_is_whole(self) -> None:
        """Whatever happens."""
        for name, life in self.lives.items():
            told = status.values(life, self.health.get(name), None, self.now, 1e9)
            assert told["seconds"] >= 0 and (told["pid"] is None) == (not life.has_main)
            assert (told["next_start_in"] is None) == (life.state != RESTARTING)


TestSteering = Steering.TestCase
