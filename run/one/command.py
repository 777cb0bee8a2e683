"""One command: what follows from the end of a child, from a signal, and from a terminal's stop, done.

The decisions are those of run.one.policy and run.one.job. Source: contract, "One command".
"""

import os

from run import _kernel, children, descriptors, start
from run.children import Delivery, Queued
from run.cli import Options
from run.descriptors import STDERR, STDIN
from run.log import Log
from run.loop import CLD_CODES, PATIENCE, SI_QUEUE, Charge, Loop, RunError, Signal, become_reaper
from run.one import terminal
from run.one.job import LEND, SUSPEND, Job
from run.one.policy import Policy
from run.one.terminal import Terminal
from run.recipients import Recipients, Served
from run.signals import CHLD, CONT, FORWARDED, TERM, TSTP, XCPU, XFSZ, describe, signal_set
from run.text import shown
from run.wait_status import described, exit_code, stop_signal

WAITED_FOR = FORWARDED | signal_set(CHLD, TSTP)

SPECIAL = frozenset((CHLD, TSTP, CONT, XFSZ, XCPU))
"""Signals that are not passed on, or not always, or not only that."""


class Command(Charge):
    """One command, and all that descends from it: a charge of the loop."""

    def __init__(
        self,
        options: Options,
        log: Log,
        environment: list[bytes] | None = None,
        user: tuple[int, int, list[int]] | None = None,
    ) -> None:
        """Take the command line, and what else start.start() is to know; nothing is started yet."""
        self._log = log
        self._policy = Policy(options.signal, options.daemon, options.grace)
        self._words, options.words = options.words, []  # so that nobody keeps them once they are started
        self._death_signal = options.signal or TERM
        self._environment = environment
        self._user = user
        self._terminal = Terminal()
        self._job = Job()
        self._served = Served()
        self._main = 0
        self._main_lives = False
        self._strangers: set[int] = set()
        """Children from before execve(2), which may have no exit signal, so that only looking tells of their end."""

    def run(self) -> int:
        """Start the command, and return the exit code once no process is left. Raises RunError."""
        become_reaper()
        self._start()
        Loop(self, self._log).run()
        self._log.info(f"no process is left: exiting with code {self._policy.exit_code}")
        return self._policy.exit_code

    def has_child(self) -> bool:
        """The main command is one until it was reaped."""
        return self._main_lives

    def lives(self) -> bool:
        """Whether a child is seen to live."""
        return (self._main_lives and children.is_alive(self._main)) or children.any_lives()

    def is_over(self) -> bool:
        """Without a child all is done."""
        return True

    def act(self, now: float) -> None:
        """Send what is due."""
        due = self._policy.signal_due(now)
        if due is not None:
            found = self._send("sending", due)
            if found is not None:
                children.newcomers(found, self._served)
        newcomers_get = self._policy.newcomers_due(now)
        if newcomers_get is not None:
            self._serve_newcomers(newcomers_get, now)

    def timeout(self, now: float) -> float | None:
        """When the policy wants to be asked again, and strangers are to be looked after."""
        timeout = self._policy.timeout(now)
        return PATIENCE if self._strangers and timeout is None else timeout

    def wait(self, timeout: float | None) -> list[Signal]:
        """Wait for a signal."""
        signal = _kernel.wait_signal(WAITED_FOR, timeout)
        return [] if signal is None else [signal]

    def _start(self) -> None:
        if self._log.shows_info:
            self._log.info(f"own pid is {os.getpid()}")
        self._strangers = children.from_before()
        lends = self._job.may_be_lent(self._terminal.foreground_at_start())
        try:
            self._main = start.start(
                self._words,
                self._death_signal,
                environment=self._environment,
                terminal=STDIN if lends else -1,
                user=self._user,
            )
        except start.StartError as error:
            self._log.error(str(error))
            if lends:
                self._terminal.take_back()
            self._ended(0, error.code, is_main=True)
        except OSError as error:
            raise RunError(f"cannot start {shown(self._words)}: fork: {error.strerror}") from None
        else:
            self._main_lives = True
            if lends:
                self._job.lent(self._main)
            if self._log.shows_info:
                self._log.info(f"pid {self._main}: started {shown(self._words)}")
        self._words = []
        kept = {STDERR} if self._log.fd is None else {STDERR, self._log.fd}
        descriptors.keep_only(kept | {STDIN} if self._terminal.is_stdin else kept)

    def reap(self) -> bool:
        """Reap one child."""
        changed = self._reap_knowing() if self._policy.awaits_first_end else children.reap()
        if changed is None:
            return False
        self._child_changed(*changed)
        return True

    def _reap_knowing(self) -> tuple[int, int, bool, bool] | None:
        """Reap one, and know whether it was a daemon's step into the background, and of an outer session.

        Raises as children.reap().
        """
        try:
            following = children.next_to_reap()
        except ChildProcessError:
            raise
        except OSError as error:
            self._log.complain(f"cannot look at processes before they are reaped: {error.strerror}")
            changed = children.reap()
            return (*changed, False, False) if changed else None
        if following is None:
            return None
        pid, status = following
        is_outsider = children.is_of_an_outer_session(pid)
        led_session = status == 0 and self._policy.sees_steps and children.leads_session(pid)
        changed = children.reap_one(pid)
        return (*changed, led_session and children.session_lives(pid), is_outsider) if changed else None

    def _child_changed(self, pid: int, status: int, is_step: bool = False, is_outsider: bool = False) -> None:
        """A child has ended, or was stopped."""
        is_main = self._main_lives and pid == self._main
        stopped_by = stop_signal(status)
        if stopped_by:
            self._log.info(f"pid {pid}: stopped by {describe(stopped_by)}")
            self._child_stopped(pid, stopped_by, is_main)
            return
        code = exit_code(status)
        if is_main:
            self._main_lives = False
            if self._job.lent_to and self._job.must_be_taken_back(self._terminal.foreground(self._job.lent_to)):
                self._terminal.take_back()
        if self._log.shows_info:
            self._log.info(f"pid {pid}: {described(status)}")
        self._ended(pid, code, is_main, is_step, is_outsider)

    def _ended(self, pid: int, code: int, is_main: bool, is_step: bool = False, is_outsider: bool = False) -> None:
        self._served.ended(pid)
        self._strangers.discard(pid)
        if self._policy.process_ended(code, is_main, is_step, is_outsider):
            self._log.info(f"shutdown, since {f'pid {pid} has ended' if pid else 'the command was not started'}")

    def _child_stopped(self, pid: int, signum: int, is_main: bool) -> None:
        try:
            group = children.group_of(pid)
        except ProcessLookupError:
            return
        foreground = self._terminal.foreground(self._job.lent_to)
        action = self._job.child_stopped(signum, group, is_main, self._main_lives, foreground)
        if action == LEND and self._terminal.give(group):
            self._job.lent(group)
            self._continue({group})
        elif action == SUSPEND:
            self._suspend(signum)

    def _suspend(self, signum: int) -> None:
        """Stop together with the command, so that the shell sees its job stopped."""
        was_lent = bool(self._job.lent_to)
        outcome = terminal.suspend()
        if outcome == terminal.CONTINUED:
            self._resume(was_lent)
        elif outcome == terminal.STOPPED:
            self._job.is_suspended = True
        elif signum == TSTP:
            # Nobody could continue the job. Then Ctrl-Z has no effect on the command either.
            self._continue(self._job.continued())

    def _resume(self, was_lent: bool = False) -> None:
        """The job was continued: so is what its Ctrl-Z has stopped."""
        self._lend_again(was_lent)
        self._continue(self._job.continued())

    def _lend_again(self, was_lent: bool = False) -> None:
        """Give the command the terminal, if the shell has given it to `run`: after `fg`."""
        lent_to = self._job.lent_to
        if not (self._terminal.is_stdin or was_lent or lent_to):
            return
        if self._job.may_be_lent(self._terminal.foreground(lent_to)) and self._main_lives:
            group = children.group_of(self._main)
            if self._terminal.give(group):
                self._job.lent(group)

    def _continue(self, groups: set[int]) -> None:
        delivery = Delivery(CONT).to([-group for group in groups])
        if delivery.reached:
            self._log.info(f"continuing {delivery.reached}")
        self._warn(delivery)

    def signalled(self, signum: int, code: int, sender: int, uid: int, value: int) -> None:
        """A signal has come: for `run` itself, or to be passed on."""
        if (code > 0 or signum in SPECIAL) and not self._is_passed_on(signum, code, sender):
            return
        queued = (uid, sender, value) if code == SI_QUEUE else None
        self._send("forwarding", signum, 0 if code > 0 else sender, queued)

    def _is_passed_on(self, signum: int, code: int, sender: int) -> bool:
        """Whether a signal is passed on, of those that may not be. What else follows from it is done."""
        by_kernel = code > 0
        if signum == TSTP:
            # Ignored, unless it is Ctrl-Z typed while the terminal is not lent: it is meant for the whole job.
            if by_kernel:
                self._stop_typed()
            return False
        if signum == CONT:
            if self._job.is_suspended:
                self._resume()
                return False
            self._lend_again()
        # A child's change, told by whatever signal: reaped in the next turn.
        is_of_child = signum == CHLD or (by_kernel and code in CLD_CODES)
        # The limits of `run` itself: the log may not grow, its time is over; setrlimit(2).
        is_own_limit = (signum == XFSZ and sender == os.getpid()) or (signum == XCPU and by_kernel)
        return not (is_of_child or is_own_limit)

    def _stop_typed(self) -> None:
        """Ctrl-Z came to `run`: pass it on to the job, and stop with it."""
        groups = children.job_groups()
        if self._job.stop_typed(groups) == SUSPEND:
            self._suspend(TSTP)
            return
        self._tell("passing on", Delivery(TSTP).to([-group for group in groups]))

    def _list(self) -> Recipients | None:
        try:
            return children.find_recipients()
        except MemoryError:
            self._log.complain("cannot list the children: not enough memory")
            return None

    def _send(self, verb: str, signum: int, sender: int = 0, queued: Queued | None = None) -> Recipients | None:
        """Send a signal to those that the contract, "Signals", names; return them where they could be listed."""
        found = self._list()
        delivery = Delivery(signum, found, queued)
        if found is None:
            delivery.to(children.everybody(self._main))
        else:
            delivery.to_all(found)
        self._tell(verb, delivery, sender)
        return found

    def _serve_newcomers(self, signum: int, now: float) -> None:
        """Send the signal of -s to who was re-parented to `run` after it was sent."""
        before = _kernel.cpu_time()
        found = self._list()
        if found is None:
            self._policy.could_not_look(now)
            return
        new = children.newcomers(found, self._served)
        self._policy.looked(now, _kernel.cpu_time() - before)
        self._tell("sending", Delivery(signum).to_all(new))

    def _tell(self, verb: str, delivery: Delivery, sender: int = 0) -> None:
        if self._log.shows_info and delivery.reached:
            origin = f" from pid {sender}" if sender else ""
            self._log.info(f"{verb} {describe(delivery.signum)}{origin} to {delivery.reached}")
        if delivery.refused:
            self._warn(delivery)

    def _warn(self, delivery: Delivery) -> None:
        for reason, targets in delivery.refused.items():
            self._log.warn(f"cannot send {describe(delivery.signum)} to {targets}: {reason}")
