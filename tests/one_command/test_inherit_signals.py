"""Contract, "Starting the command": signal mask, signal dispositions, parent-death signal and process group."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import Starter, alive, signals, state, wait_until
from hypothesis import given, settings
from hypothesis import strategies as st
from probe import Probe, ignore, set_blocked, signal_mask

some = settings(max_examples=40)

UNBLOCKABLE = {signal.SIGKILL, signal.SIGSTOP}
EVERY = sorted(set(range(1, 65)) - UNBLOCKABLE)
signal_sets = st.sets(st.sampled_from(EVERY))


def mask_bytes(signums: set[int]) -> bytes:
    return signal_mask(signums).to_bytes(8, "little")


def given_signals(blocked: set[int], ignored: set[int]) -> Callable[[], None]:
    """A setup that leaves no other signal blocked or ignored."""

    def setup() -> None:
        for signum in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(signum, signal.SIG_DFL)
        ignore(ignored)
        set_blocked(blocked)

    return setup


@some
@given(blocked=signal_sets, ignored=signal_sets)
def test_any_signal_mask_and_any_ignored_signals(probe: Probe, blocked: set[int], ignored: set[int]) -> None:
    direct, through = probe.both(setup=given_signals(blocked, ignored))
    assert direct["mask"] == mask_bytes(blocked)
    assert through["mask"] == direct["mask"]
    assert direct["ignored"] == mask_bytes(ignored)
    assert through["ignored"] == direct["ignored"]


@pytest.mark.parametrize("signum", EVERY)
def test_one_signal_that_was_ignored_stays_ignored_and_no_other_is(probe: Probe, signum: int) -> None:
    through = probe.both(setup=given_signals(set(), {signum}))[1]
    assert through["ignored"] == mask_bytes({signum})
    assert through["mask"] == mask_bytes(set())


@pytest.mark.parametrize("signum", EVERY)
def test_one_signal_that_was_blocked_stays_blocked_and_no_other_is(probe: Probe, signum: int) -> None:
    through = probe.both(setup=given_signals({signum}, set()))[1]
    assert through["mask"] == mask_bytes({signum})
    assert through["ignored"] == mask_bytes(set())


@pytest.mark.parametrize("members", [set(), set(EVERY)], ids=["none", "all"])
def test_no_signal_and_every_signal(probe: Probe, members: set[int]) -> None:
    direct, through = probe.both(setup=given_signals(members, members))
    assert through["mask"] == direct["mask"] == mask_bytes(members)
    assert through["ignored"] == direct["ignored"] == mask_bytes(members)


def test_python_s_own_ignored_signals_are_not_inherited(probe: Probe) -> None:
    through = probe.both(setup=given_signals(set(), set()))[1]
    assert through["ignored"] == mask_bytes(set())


def test_run_reaps_and_ends_when_CHLD_was_ignored_and_blocked(start: Starter) -> None:
    setup = given_signals({signal.SIGCHLD}, {signal.SIGCHLD})
    code, _, log = start.result("sh", "-c", "( (exit 6) & ); exit 5", preexec_fn=setup)
    assert code == 6, log


def test_what_was_ignored_stays_so_for_a_script_without_an_interpreter_line(start: Starter, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("grep SigIgn /proc/self/status\n")
    script.chmod(0o755)
    _, out, _ = start.result(str(script), preexec_fn=given_signals(set(), {signal.SIGHUP}))
    assert out.split() == ["SigIgn:", f"{signal_mask({signal.SIGHUP}):016x}"]


@pytest.mark.parametrize("name", ["INT", "TERM", "KILL", "QUIT", "HUP", "USR1", "USR2"])
def test_the_parent_death_signal_is_that_of_s(probe: Probe, binary: str, name: str) -> None:
    report = probe.run([binary.encode(), b"-qs", name.encode(), *probe.words()])
    assert int(report["death-signal"]) == signal.Signals[f"SIG{name}"]


def test_the_parent_death_signal_is_TERM_without_s(probe: Probe) -> None:
    direct, through = probe.both()
    assert int(direct["death-signal"]) == 0
    assert int(through["death-signal"]) == signal.SIGTERM


@pytest.mark.parametrize(("words", "signum"), [((), signal.SIGTERM), (("-s", "USR2"), signal.SIGUSR2)])
def test_the_command_is_sent_its_parent_death_signal_when_run_is_killed(
    start: Starter, words: tuple[str, ...], signum: int
) -> None:
    name = signal.Signals(signum).name.removeprefix("SIG")
    script = f"trap 'echo got it; exit' {name}; echo pid $$; while :; do sleep 0.01; done"
    started = start(*words, "sh", "-c", script)
    started.wait_out("pid")
    command = int(started.out().split()[1])
    started.process.kill()
    started.wait()
    wait_until(lambda: "got it" in started.out(), "the command got the signal")
    wait_until(lambda: not alive(command), "the command is gone")


def test_the_command_leads_a_process_group_of_its_own(probe: Probe) -> None:
    direct, through = probe.both()
    assert direct["leads-its-group"] == b"0"
    assert through["leads-its-group"] == b"1"


def test_run_itself_keeps_every_signal_blocked_but_the_faults(start: Starter) -> None:
    started = start("sleep", "1000")
    started.wait_log("started")
    faults = {
        signal.SIGSEGV,
        signal.SIGBUS,
        signal.SIGFPE,
        signal.SIGILL,
        signal.SIGTRAP,
        signal.SIGSYS,
        signal.SIGABRT,
    }
    wait_until(lambda: state(started.pid) == "S", "run sleeps")
    # What it sleeps for is taken out of the mask while it sleeps: sigtimedwait(2)
    assert not signals(started.pid, "SigBlk") & faults
    assert not signals(started.pid, "SigCgt")
    started.send(signal.SIGTERM)
    assert started.wait() == 128 + signal.SIGTERM
