"""What follows for all services together: random services and happenings against a plain model, without a process.

Contract, "A service's life" and "The exit code of services". The model is a world in which what the manager wants is
done; it knows who runs since when, and what the contract allows, and asks for, at each moment.
"""

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from run.services.life import AGAIN, DOWN, LATE, SUCCEEDED, UNHEALTHY, UP
from run.services.manager import Action, Kill, Manager, Say, Start, Stop, StopRest
from run.services.plan import Plan, Service
from run.signals import KILL, QUIT, TERM

NAMES = "abcde"
GRACES = st.sampled_from([None, 3.0, 9.0])
FINE, NOT_EXECUTED, NOT_FORKED = "fine", "not executed", "not forked"


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """A few services, each depending on some that come before it."""
    services = []
    for number, name in enumerate(NAMES[: draw(st.integers(1, len(NAMES)))]):
        oneshot = draw(st.booleans())
        policy = draw(st.sampled_from(["no", "on-failure"] if oneshot else ["no", "on-failure", "always"]))
        keys: dict[str, Any] = {
            "oneshot": oneshot,
            "daemon": not oneshot and draw(st.booleans()),
            "essential": draw(st.booleans()),
            "restart": policy,
            "restart_limit": None if policy == "no" else draw(st.sampled_from([None, 1, 3])),
            "restart_delay": draw(st.sampled_from([0.1, 2.0])),
            "restart_max_delay": draw(st.sampled_from([2.0, 5.0])),
            "depends_on": tuple(sorted(draw(st.sets(st.sampled_from(NAMES[:number]))))) if number else (),
            "stop_signal": draw(st.sampled_from([TERM, QUIT])),
            "stop_grace_period": draw(GRACES),
            "kill_mode": draw(st.sampled_from(["group", "mixed"])),
        }
        services.append(Service(name, [b"command"], [], **keys))
    return Plan(tuple(services), draw(GRACES))


class Model:
    """What there is to know about a service."""

    def __init__(self, service: Service) -> None:
        """It is to be started."""
        self.service = service
        self.runs = False
        self.is_ready = False  # or it is a oneshot that has succeeded
        self.is_final = False
        self.has_failed = False
        self.is_in_vain = False
        self.is_by_hand = False
        self.wants_again = False
        self.start_at = 0.0
        self.row = 0
        self.code: int | None = None
        self.begin(0.0)

    def begin(self, now: float) -> None:
        """A life begins."""
        self.began = self.ended = now
        self.exit_code: int | None = None
        self.stopped_at: float | None = None
        self.kill_at: float | None = None
        self.has_crashed = False
        self.is_killed = False
        self.failure = ""


class World(RuleBasedStateMachine):
    """Services that start, end, hang and crash; and somebody who gives orders."""

    @initialize(plan=plans())
    def all_are_to_be_started(self, plan: Plan) -> None:
        """The beginning."""
        self.plan = plan
        self.models = {service.name: Model(service) for service in plan.services}
        self.manager = Manager(plan)
        self.now = 100.0
        self.starts = FINE
        self.stopping_since: float | None = None
        self.kills_at: float | None = None
        self.cause: Model | None = None
        self.rest_is_told = False
        self.settle()

    def running(self, has_main: bool | None = None) -> list[str]:
        """Who runs; if asked for, of these who has a main process, or has none any more."""
        wanted = (None,) if has_main is None else (has_main,)
        return [
            n
            for n, m in self.models.items()
            if m.runs and (m.exit_code is None if has_main is not None else None) in wanted
        ]

    def dependents(self, name: str) -> set[str]:
        """Who depends on it, however far."""
        direct = {other for other, model in self.models.items() if name in model.service.depends_on}
        return direct.union(*map(self.dependents, direct))

    # What the manager wants is done, and has to be allowed.

    def settle(self) -> None:
        """Do what is wanted, until nothing is."""
        while actions := [action for action in self.manager.actions(self.now) if not isinstance(action, Say)]:
            self.fail_who_waits_in_vain()
            for action in actions:
                self.do(action)
            if all(isinstance(action, StopRest) for action in actions):
                break
        self.fail_who_waits_in_vain()

    def do(self, action: Action) -> None:
        """Do it in the world."""
        match action:
            case Start(name):
                self.start(self.models[name])
            case Stop(name, signum, to_group):
                self.stop(self.models[name], signum, to_group)
            case Kill(name):
                self.kill(self.models[name])
            case StopRest(signum):
                assert not self.running(), "what belongs to no service goes last"
                assert self.stopping_since is not None or not self.anything_to_come()
                assert (signum == KILL) == self.is_killing()
                self.rest_is_told = True

    def start(self, model: Model) -> None:
        """It starts when all that it depends on are ready."""
        service = model.service
        assert not (model.runs or model.is_final or model.is_by_hand)
        assert self.stopping_since is None
        assert self.now >= model.start_at, "its delay is not over"
        assert all(self.models[name].is_ready for name in service.depends_on), "it depends on what is not ready"
        model.begin(self.now)
        if self.starts != FINE:
            model.code = 127 if self.starts == NOT_EXECUTED else 125
            self.manager.not_started(service.name, model.code, "why", self.starts == NOT_EXECUTED, self.now)
            self.after_life(model, may_restart=self.starts == NOT_FORKED)
            return
        model.runs = True
        self.manager.executed(service.name, ord(service.name), self.now)
        model.is_ready = not service.oneshot and not service.daemon

    def stop(self, model: Model, signum: int, to_group: bool) -> None:
        """In reverse order of dependencies; each gets its signal once."""
        service = model.service
        assert model.runs
        assert model.stopped_at is None, "it has got its stop signal before"
        assert (signum, to_group) == (service.stop_signal, service.kill_mode == "group")
        model.stopped_at = self.now
        model.is_ready = False
        grace = service.stop_grace_period
        if grace is None and self.stopping_since is None:
            grace = self.plan.grace
        model.kill_at = None if grace is None else self.now + grace
        if self.stopping_since is not None and not self.last_third_has_begun():
            assert not self.dependents(service.name) & set(self.running()), "those that depend on it run"

    def last_third_has_begun(self) -> bool:
        """Whether everybody is to be stopped, whoever hangs."""
        assert self.stopping_since is not None
        return self.plan.grace is not None and self.now >= self.stopping_since + self.plan.grace * 2 / 3

    def is_killing(self) -> bool:
        """Whether the common grace is over."""
        return self.kills_at is not None and self.now >= self.kills_at

    def kill(self, model: Model) -> None:
        """After the grace; or what the main process has left, if that alone would have got the signal."""
        assert model.runs
        if not self.is_overdue(model):
            assert model.service.kill_mode == "mixed" and model.exit_code is not None, "its grace is not over"
            self.stop(model, model.service.stop_signal, False)
        model.is_killed = True
        model.is_ready = False
        model.stopped_at = self.now if model.stopped_at is None else model.stopped_at

    def is_overdue(self, model: Model) -> bool:
        """Whether the common grace of the shutdown is over, or the one that began when it was stopped."""
        return self.is_killing() or (model.kill_at is not None and self.now >= model.kill_at)

    # What follows in the model.

    def after_life(self, model: Model, may_restart: bool) -> None:
        """A life is over, and counts model.code."""
        service, code = model.service, model.code
        assert code is not None
        model.runs = model.is_ready = False
        if model.wants_again:
            model.wants_again, model.start_at = False, self.now
            return
        if self.stopping_since is not None or model.is_by_hand:
            model.is_final, model.has_failed = True, code != 0
            return
        if model.ended - model.began >= 10:
            model.row = 0
        wants = service.restart == "always" or (service.restart == "on-failure" and code) or model.failure == UNHEALTHY
        if may_restart and wants and (service.restart_limit is None or model.row < service.restart_limit):
            model.start_at = self.now + min(service.restart_delay * 2**model.row, service.restart_max_delay)
            model.row += 1
            return
        model.is_final, model.has_failed = True, code != 0
        model.is_ready = service.oneshot and code == 0
        if service.essential and not model.is_ready:
            self.all_stop(model)

    def all_stop(self, cause: Model | None = None) -> None:
        """All is to be stopped."""
        if self.stopping_since is None:
            self.stopping_since, self.cause = self.now, cause
            self.kills_at = None if self.plan.grace is None else self.now + self.plan.grace
            for model in self.models.values():
                model.wants_again = False
                model.is_final = model.is_final or not model.runs

    def fail_who_waits_in_vain(self) -> None:
        """Who depends on what has failed, or ended, for good, fails without being started."""
        for model in self.models.values():  # each comes behind those that it depends on
            if model.runs or model.is_final or model.is_by_hand or self.now < model.start_at:
                continue
            others = [self.models[name] for name in model.service.depends_on]
            if all(other.is_ready for other in others):
                continue
            for other in others:
                if other.is_final and not other.is_ready and not other.is_by_hand:
                    model.code = other.code or 1
                    model.is_final = model.has_failed = model.is_in_vain = True
                    if model.service.essential:
                        self.all_stop(model)
                    break
        if self.stopping_since is None and not self.anything_to_come():
            self.all_stop()

    def anything_to_come(self) -> bool:
        """Whether something runs, or will, or was stopped by hand."""
        return any(model.runs or not model.is_final or model.is_by_hand for model in self.models.values())

    # What happens in the world.

    def one_of(self, names: list[str], data: st.DataObject) -> Model:
        """One of these services."""
        return self.models[data.draw(st.sampled_from(names))]

    @rule(how=st.sampled_from([FINE, FINE, NOT_EXECUTED, NOT_FORKED]))
    def starts_go_like_this(self, how: str) -> None:
        """From now on."""
        self.starts = how

    @precondition(lambda self: self.running(has_main=True))
    @rule(data=st.data(), code=st.sampled_from([0, 0, 1, 3, 137, 143, 131]), at_once=st.booleans())
    def a_main_process_ends(self, data: st.DataObject, code: int, at_once: bool) -> None:
        """Its group may be left for a while."""
        model = self.one_of(self.running(has_main=True), data)
        is_signal = code > 128 and data.draw(st.booleans())
        kills = self.manager.main_ended(model.service.name, code - 128 if is_signal else code << 8, self.now)
        was_stopped = model.stopped_at is not None
        crashed = code != 0 and not was_stopped
        assert kills == (crashed or (was_stopped and model.service.kill_mode == "mixed"))
        model.exit_code = code
        model.has_crashed = crashed
        if crashed:
            model.is_ready = False
        if at_once:
            self.over(model)
        self.settle()

    @precondition(lambda self: self.running(has_main=False))
    @rule(data=st.data())
    def a_group_is_gone(self, data: st.DataObject) -> None:
        """The last of a process group has ended, after its main process."""
        self.over(self.one_of(self.running(has_main=False), data))
        self.settle()

    def over(self, model: Model) -> None:
        """A life is over."""
        code = model.exit_code
        assert code is not None
        if model.stopped_at is not None and not model.has_crashed and code == 128 + model.service.stop_signal:
            code = 0
        model.code = code or (124 if model.failure else 0)
        model.ended = self.now
        self.manager.over(model.service.name, self.now)
        self.after_life(model, may_restart=True)

    @precondition(lambda self: any(self.models[n].service.daemon for n in self.running(has_main=True)))
    @rule(data=st.data())
    def a_daemon_is_ready(self, data: st.DataObject) -> None:
        """Its first process has ended with 0."""
        model = self.one_of([n for n in self.running(has_main=True) if self.models[n].service.daemon], data)
        self.manager.shown(model.service.name, SUCCEEDED, self.now)
        model.is_ready = model.is_ready or model.stopped_at is None
        self.settle()

    @precondition(lambda self: self.running(has_main=True))
    @rule(data=st.data())
    def a_healthcheck_fails(self, data: st.DataObject) -> None:
        """It was not ready in time, or is unhealthy."""
        model = self.one_of(self.running(has_main=True), data)
        event = UNHEALTHY if model.is_ready else LATE
        if model.stopped_at is None and not (event == LATE and model.service.oneshot):
            self.manager.shown(model.service.name, event, self.now)
            if self.stopping_since is None:
                model.failure = event
                self.settle()
                assert model.stopped_at == self.now

    @rule(seconds=st.sampled_from([0.05, 0.1, 1.0, 2.0, 3.0, 6.0, 10.0]))
    def time_passes(self, seconds: float) -> None:
        """The manager is asked again when it wants to be."""
        until = self.now + seconds
        while (due := self.manager.timeout(self.now)) is not None and self.now + due <= until:
            self.now += due
            self.settle()
            if due == 0 or not self.running():
                break
        self.now = until
        self.settle()

    @rule()
    def term_comes(self) -> None:
        """From outside."""
        self.all_stop()
        self.manager.stop_all("TERM", self.now)
        self.settle()

    @precondition(lambda self: self.stopping_since is not None)
    @rule()
    def int_comes_a_second_time(self) -> None:
        """Everything is killed."""
        self.kills_at = self.now if self.kills_at is None else min(self.kills_at, self.now)
        self.manager.kill_all("INT", self.now)
        self.settle()
        assert all(self.models[name].is_killed for name in self.running())

    @precondition(lambda self: self.stopping_since is None)
    @rule(data=st.data(), wanted=st.sampled_from([UP, DOWN, AGAIN]))
    def somebody_gives_an_order(self, data: st.DataObject, wanted: str) -> None:
        """By hand: for the named service only."""
        model = self.one_of(list(self.models), data)
        model.is_by_hand = wanted == DOWN
        model.row = 0
        is_stopping = model.stopped_at is not None or model.has_crashed
        model.wants_again = model.runs and (wanted == AGAIN or (wanted == UP and is_stopping))
        if not model.runs and wanted != DOWN:
            model.is_final = model.is_ready = model.has_failed = False
            model.start_at = self.now
        if not model.runs and wanted == DOWN and not model.is_final:
            model.is_final, model.has_failed = True, False
        self.manager.order(model.service.name, wanted, self.now)
        self.settle()

    # What holds always.

    @invariant()
    def what_runs_is_what_the_manager_believes(self) -> None:
        """Both know the same."""
        for name, model in self.models.items():
            life = self.manager.lives[name]
            assert life.lives == model.runs, (name, life.state)
            assert life.is_final == model.is_final, (name, life.state)
            # Who of those that fail with others is the first is open, and an essential one stops the rest.
            is_open = self.stopping_since is not None and (model.is_in_vain or life.ended.startswith("not started"))
            assert life.code == model.code or is_open, name

    @invariant()
    def who_may_start_has_started(self) -> None:
        """Nobody waits for nothing."""
        for name, model in self.models.items():
            if not (model.runs or model.is_final) and self.now >= model.start_at:
                others = [self.models[other] for other in model.service.depends_on]
                assert not all(other.is_ready for other in others), f"{name} is not started"

    @invariant()
    def who_is_to_stop_was_told(self) -> None:
        """As soon as those that depend on it are gone, or its time has come."""
        for name in self.running():
            model = self.models[name]
            if self.stopping_since is not None:
                free = not self.dependents(name) & set(self.running())
                assert (
                    model.stopped_at is not None
                    or model.exit_code is not None
                    or not (free or self.last_third_has_begun())
                ), f"{name} has got no stop signal"
            if model.is_by_hand or model.wants_again:
                assert model.stopped_at is not None or model.exit_code is not None
            if model.stopped_at is not None and self.is_overdue(model):
                assert model.is_killed, f"{name} is not killed, though its grace is over"

    @invariant()
    def nothing_is_due_in_the_past(self) -> None:
        """It sleeps unless there is something to do."""
        timeout = self.manager.timeout(self.now)
        assert timeout is None or timeout > 0

    @invariant()
    def it_is_over_once_all_are_gone(self) -> None:
        """With the exit code that the contract says."""
        is_over = self.stopping_since is not None and not self.running()
        assert self.manager.is_over == is_over
        if is_over:
            assert self.rest_is_told
            codes = [model.code or 0 for model in self.models.values()]
            assert self.manager.exit_code == ((self.cause and self.cause.code) or max(codes))


TestWorld = World.TestCase
