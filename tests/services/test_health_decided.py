"""When a service is probed, and what follows: random results at random times, against what the contract says.

Contract, "Ready and healthy". No process, no clock: times are numbers.
"""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from run.services.health import GIVE_UP, HEALTHY, NONE, NOTHING, PROBE, RECOVERED, SICK, STARTING, Health
from run.services.healthcheck import Healthcheck
from run.services.life import LATE, SUCCEEDED, UNHEALTHY

SECONDS = st.sampled_from([0.1, 0.5, 1.0, 3.0, 10.0, 30.0])

CHECKS = st.builds(
    Healthcheck,
    way=st.sampled_from(["test", "tcp", "unix", "http", "notify"]),
    interval=SECONDS,
    timeout=SECONDS,
    retries=st.integers(1, 4),
    start_period=SECONDS,
    start_interval=SECONDS,
)


class Probing(RuleBasedStateMachine):
    """A service that begins and ends, is probed, and answers or does not."""

    @initialize(check=CHECKS)
    def there_is_no_life(self, check: Healthcheck) -> None:
        """The beginning."""
        self.check = check
        self.health = Health(check)
        self.now = 1000.0
        self.forget()

    def forget(self) -> None:
        """Nothing is known of a life."""
        self.began_at: float | None = None
        self.probed_at: float | None = None
        self.first_success: float | None = None
        self.under_way = False
        self.failures = 0
        self.is_late = self.is_sick = False

    def look(self) -> None:
        """Ask what is due now, as often as something is, and do it."""
        for _ in range(4):  # it is late, the probe takes too long, and the next one is due: in one moment
            due = self.health.due(self.now)
            if due == NOTHING:
                return
            assert self.began_at is not None, "nothing is due without a life"
            if due == PROBE:
                self.probe()
            elif due == GIVE_UP:
                assert self.under_way and self.probed_at is not None
                assert self.now >= self.probed_at + self.check.timeout, "its time is not over"
                self.fails("no end")
            else:
                assert due == LATE
                assert self.first_success is None and not self.is_late
                assert self.now >= self.began_at + self.check.start_period
                self.is_late = True
        raise AssertionError("something is due again and again")

    def probe(self) -> None:
        """A probe begins."""
        assert self.check.way != "notify", "it tells itself"
        assert not self.under_way, "the last one has not ended"
        assert self.began_at is not None
        if self.probed_at is None:
            assert self.first_success is not None or self.now == self.began_at, "the first one comes at once"
        elif self.first_success is None:
            assert self.now >= self.probed_at + self.check.start_interval
        else:
            assert self.now >= max(self.probed_at, self.first_success) + self.check.interval
        self.under_way, self.probed_at = True, self.now

    def fails(self, reason: str) -> None:
        """A probe has failed."""
        event = self.health.failed(reason)
        self.under_way = False
        self.failures += 1
        becomes_sick = self.first_success is not None and not self.is_sick and self.failures >= self.check.retries
        assert event == (UNHEALTHY if becomes_sick else NOTHING)
        self.is_sick = self.is_sick or becomes_sick
        assert self.health.reason == reason

    def succeeds(self) -> None:
        """A probe has succeeded, or the service has told."""
        event = self.health.succeeded(self.now)
        expected = SUCCEEDED if self.first_success is None else RECOVERED if self.is_sick else NOTHING
        assert event == expected
        self.first_success = self.now if self.first_success is None else self.first_success
        self.under_way = self.is_sick = False
        self.failures = 0
        assert self.health.reason == ""

    @rule()
    def a_life_begins(self) -> None:
        """Whatever the last one has left."""
        self.forget()
        self.began_at = self.now
        self.health.began(self.now)
        self.look()
        assert self.under_way == (self.check.way != "notify")

    @precondition(lambda self: self.began_at is not None)
    @rule()
    def a_life_ends(self) -> None:
        """Or is to end."""
        self.forget()
        self.health.ended()

    @precondition(lambda self: self.under_way)
    @rule(success=st.booleans(), reason=st.sampled_from(["refused", "exited with code 1"]))
    def a_probe_ends(self, success: bool, reason: str) -> None:
        """Well or badly."""
        if success:
            self.succeeds()
        else:
            self.fails(reason)
        self.look()

    @precondition(lambda self: self.began_at is not None and self.check.way == "notify")
    @rule()
    def a_service_tells(self) -> None:
        """READY=1."""
        self.succeeds()
        self.look()

    @rule(seconds=st.floats(0.01, 40))
    def time_passes(self, seconds: float) -> None:
        """It is asked when it wants to be, and a little before that, when nothing is due."""
        until = self.now + seconds
        while (then := self.health.next_time()) is not None and then <= until:
            if then - 0.001 > self.now:
                assert self.health.due(then - 0.001) == NOTHING
            self.now = max(self.now, then)
            before = self.health.next_time()
            self.look()
            assert self.health.next_time() != before, "what was due is over"
        self.now = until
        assert self.health.due(self.now) == NOTHING

    @invariant()
    def it_is_in_the_state_that_the_contract_says(self) -> None:
        """As `status` shows it."""
        if self.began_at is None:
            assert self.health.state == NONE
        elif self.first_success is None:
            assert self.health.state == STARTING
        else:
            assert self.health.state == (SICK if self.is_sick else HEALTHY)

    @invariant()
    def who_is_not_ready_is_awaited(self) -> None:
        """Something is due at the end of its start period, if not before; and of who is ready, with the next probe."""
        then = self.health.next_time()
        if self.began_at is None:
            assert then is None
        elif self.first_success is None and not self.is_late:
            assert then is not None and then <= self.began_at + self.check.start_period
        elif self.check.way == "notify":
            assert then is None, "once it is ready no more is asked"
        else:
            assert then is not None and self.probed_at is not None
            longest = max(self.check.interval, self.check.start_interval, self.check.timeout)
            assert then <= max(self.probed_at, self.first_success or 0) + longest


TestProbing = Probing.TestCase
