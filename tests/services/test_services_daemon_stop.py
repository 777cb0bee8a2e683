"""Contract, "The file", `daemon`: signals go to the groups of the keeper's children; how it is stopped and killed."""

import os
import signal

import pytest
from daemonizing import background, daemon, keeper, wait_settled
from harness import alive, state, wait_until
from serving import AWAKE, FOREVER, HOUR, PID_1, Journal, Server


@PID_1
def test_the_stop_signal_goes_to_the_groups_of_the_keepers_children(
    serve: Server, journal: Journal, pid_1: bool
) -> None:
    script = f"""
        setsid sh -c '{background(journal, "a")}' &
        setsid sh -c '{background(journal, "b")}' &
        exit 0
    """
    started = serve({"daemon": {"command": script, "daemon": True}}, HOUR, pid_1=pid_1)
    journal.wait("a ready")
    journal.wait("b ready")
    wait_settled(started, 2)
    started.send(signal.SIGTERM)
    assert started.wait() == 0
    assert sorted(journal.lines()[2:]) == ["a told", "b told"]


@PID_1
def test_it_has_its_own_stop_signal_and_is_stopped_in_its_turn(serve: Server, journal: Journal, pid_1: bool) -> None:
    slowly = f"sleep 0.2; {journal.note('web gone')}; exit 0"
    services = {
        "daemon": daemon(background(journal, "daemon", by="USR1"), stop_signal="USR1"),
        "web": {"command": journal.told("web", slowly), "depends_on": ["daemon"]},
    }
    started = serve(services, HOUR, pid_1=pid_1)
    journal.wait("daemon ready")
    journal.wait("web ready")
    wait_settled(started)
    started.send(signal.SIGTERM)
    assert started.wait() == 0
    assert journal.lines()[2:] == ["web told", "web gone", "daemon told"]


@PID_1
def test_all_of_it_is_killed_when_its_grace_is_over(serve: Server, journal: Journal, pid_1: bool) -> None:
    """Also what is in sessions of its own."""
    deaf = f'trap "" TERM; {journal.note("ready")}; {AWAKE}'
    script = f"setsid sh -c '{deaf}' & setsid sh -c 'setsid sh -c \"$0\" & {deaf}' '{deaf}' & exit 0"
    started = serve({"daemon": {"command": script, "daemon": True}}, "-t0.3", pid_1=pid_1)
    journal.wait("ready", 3)
    left = wait_settled(started, 2)
    started.send(signal.SIGTERM)
    assert started.wait() == 137
    assert not any(alive(pid) for pid in left)


WITHOUT_PROC_AS_PID_1 = (
    *("unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "sh", "-ec"),
    *('mount -t tmpfs none /proc; exec "$@"', "sh"),
)


AFTER = {"depends_on": ["daemon"]}
"""It is started once the daemon's first process has ended."""


def test_without_proc_it_is_told_with_the_rest(serve: Server, journal: Journal) -> None:
    """Its keeper cannot see it any more, and PID 1 can tell everybody."""
    services = {"daemon": daemon(background(journal, "daemon")), "other": {"command": FOREVER, **AFTER}}
    started = serve(services, HOUR, prefix=WITHOUT_PROC_AS_PID_1)
    journal.wait("daemon ready")
    started.wait_log("other (pid ")
    started.send(signal.SIGTERM)
    assert started.wait() == 0
    assert journal.lines() == ["daemon ready", "daemon told"]


def test_without_proc_it_is_killed_with_the_rest(serve: Server, journal: Journal) -> None:
    script = f'trap "" TERM; {journal.note("ready")}; {AWAKE}'
    services = {"daemon": daemon(script), "other": {"command": FOREVER, **AFTER}}
    started = serve(services, "-t0.3", prefix=WITHOUT_PROC_AS_PID_1)
    journal.wait("ready")
    started.wait_log("other (pid ")
    started.send(signal.SIGTERM)
    assert started.wait() in (0, 137)
    assert "sending KILL (9) to all processes" in started.log()


@PID_1
def test_INT_twice_kills_it(serve: Server, journal: Journal, pid_1: bool) -> None:
    started = serve({"daemon": daemon(f'trap "" TERM; {journal.note("ready")}; {FOREVER}')}, HOUR, pid_1=pid_1)
    journal.wait("ready")
    wait_settled(started)
    started.send(signal.SIGINT)
    started.wait_log("sending TERM")
    started.send(signal.SIGINT)
    assert started.wait() == 137


@PID_1
def test_other_signals_go_to_those_of_the_keepers_children_that_catch_them(
    serve: Server, catcher: str, pid_1: bool
) -> None:
    script = f"setsid {catcher} a & setsid {catcher} b -1 & setsid sleep 1000 & exit 0"
    started = serve({"daemon": {"command": script, "daemon": True}}, HOUR, pid_1=pid_1)
    for name in ("a", "b"):
        started.wait_out(f"daemon | {name} ready")
    wait_settled(started, 3)
    started.send(signal.SIGHUP)
    started.wait_out("a got 1 from")
    started.send(signal.SIGUSR2)
    started.wait_out("a got 12 from")
    started.wait_out("b got 12 from")
    assert "b got 1 " not in started.out()
    started.send(signal.SIGTERM)
    assert started.wait() == 0


def test_when_run_is_killed_the_daemon_gets_its_stop_signal(serve: Server, journal: Journal) -> None:
    """By way of the keeper, whose parent-death signal it is."""
    for name in ("TERM", "USR1"):
        keys = daemon(background(journal, name, by=name), stop_signal=name, output="null")
        started = serve({"daemon": keys})
        journal.wait(f"{name} ready")
        wait_settled(started)
        kept = keeper(started)
        started.process.kill()
        journal.wait(f"{name} told")
        wait_until(lambda kept=kept: not alive(kept), "the keeper has ended")  # type: ignore[misc]


@PID_1
@pytest.mark.parametrize("by", ["PIPE", "ABRT", "CHLD", "RTMIN+1"])
def test_any_signal_can_be_its_stop_signal(serve: Server, catcher: str, by: str, pid_1: bool) -> None:
    """Also one that a keeper itself does not wait for, or that means something to it."""
    keys = {"command": f"setsid {catcher} a & exit 0", "daemon": True, "stop_signal": by}
    started = serve({"daemon": keys}, "-t1", pid_1=pid_1)
    started.wait_out("daemon | a ready")
    wait_settled(started)
    started.send(signal.SIGTERM)
    number = signal.SIGRTMIN + 1 if by == "RTMIN+1" else signal.Signals[f"SIG{by}"]
    started.wait_out(f"a got {int(number)} from")
    assert started.wait() == 137


@PID_1
def test_a_keeper_that_is_stopped_is_continued_so_that_it_kills(serve: Server, journal: Journal, pid_1: bool) -> None:
    started = serve({"daemon": daemon(background(journal, "daemon"))}, "-t0.3", pid_1=pid_1)
    journal.wait("daemon ready")
    (left,) = wait_settled(started)
    kept = keeper(started)
    os.kill(kept, signal.SIGSTOP)
    wait_until(lambda: state(kept) == "T", "the keeper is stopped")
    started.send(signal.SIGTERM)
    assert started.wait() == 137
    assert not alive(left)
