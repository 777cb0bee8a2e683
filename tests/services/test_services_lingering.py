"""Contract, "A service's life": the main process was reaped, and nobody tells when the last of its group is gone."""

import errno
import os
import shlex
import signal
import sys
from pathlib import Path

import pytest
from controlling import DONE, OTHER, Boxes
from harness import AS_PID_1, children, open_gate, state, status, wait_until
from serving import FAST, FOREVER, HOUR, PID_1, Journal, Server, events, wait_pid

from run.services.lingering import FIRST_PAUSE, LONGEST_PAUSE, LONGEST_WHILE_STOPPING, Lingering

UNREAPED = "(true & exec setsid sleep 1000) & exec sleep 1000"
"""A script of which a zombie stays in its group, whose parent is in another session, and never reaps it."""


def pipe(folder: Path) -> Path:
    """A pipe that a script waits at."""
    os.mkfifo(folder / "pipe")
    return folder / "pipe"


@PID_1
def test_a_zombie_that_somebody_else_has_to_reap_does_not_hold_up_the_stop(serve: Server, pid_1: bool) -> None:
    started = serve({"web": {"command": UNREAPED}}, HOUR, pid_1=pid_1)
    main = wait_pid(started, "web")
    wait_until(
        lambda: any(state(one) == "Z" for parent in children(main) for one in children(parent)), "there is the zombie"
    )
    started.send(signal.SIGTERM)
    assert started.wait() == 0
    assert events(started, "web")[-1] == "killed by TERM (15); stopped"


@PID_1
def test_nor_the_restart_after_a_crash(serve: Server, journal: Journal, tmp_path: Path, pid_1: bool) -> None:
    gate = pipe(tmp_path)
    script = f"{journal.note('life')}; (true & exec setsid sh -c 'echo >{gate}; {FOREVER}') & read _ <{gate}; exit 3"
    started = serve({"web": {"command": script, "restart": "always:2", **FAST}}, HOUR, pid_1=pid_1)
    assert started.wait() == 3
    assert journal.lines() == ["life"] * 3


LEAVER = """
import os, signal, sys
def told(*_):
    print("told", flush=True)
    os._exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("waits", flush=True)
open(sys.argv[1]).read()
signal.signal(signal.SIGTERM, told)
os.setsid()
while True:
    signal.pause()
"""
"""Stays when its group is told to stop, and leaves it then."""


@PID_1
def test_a_grace_is_not_waited_out_for_a_group_that_was_left(serve: Server, tmp_path: Path, pid_1: bool) -> None:
    """And what has left it gets TERM with the rest, rather than KILL."""
    gate = pipe(tmp_path)
    script = f"{shlex.join([sys.executable, '-c', LEAVER, str(gate)])} & exit 0"
    started = serve({"web": {"command": script}, "other": {"command": FOREVER}}, HOUR, pid_1=pid_1)
    started.wait_log("others of its process group are left")
    started.wait_out("web   | waits\n")
    started.send(signal.SIGTERM)
    started.wait_log("sending TERM (15) to web")
    open_gate(gate)
    assert started.wait() == 0
    assert "web   | told\n" in started.out()


def test_what_is_left_of_a_mixed_service_is_killed_at_once(serve: Server) -> None:
    """Its main process, which alone would get the signal, is gone."""
    started = serve({"web": {"command": "sleep 1000 & exit 0", "kill_mode": "mixed"}, "o": {"command": FOREVER}}, HOUR)
    started.wait_log("others of its process group are left")
    started.send(signal.SIGTERM)
    assert started.wait() == 0
    assert "sending KILL (9) to web" in started.log() and "its grace is over" not in started.log()


THIEF = """
import os, signal, sys
number, gate, journal = int(sys.argv[1]), sys.argv[2], sys.argv[3]
def note(what):
    with open(journal, "a") as file:
        file.write(what + "\\n")
open(gate).read()
os.setsid()
with open("/proc/sys/kernel/ns_last_pid", "w") as file:
    file.write(str(number - 1))
if os.fork() == 0:
    os.setsid()
    signal.signal(signal.SIGTERM, lambda *_: note("told"))
    note("has the number" if os.getpid() == number else f"has {os.getpid()}")
while True:
    signal.pause()
"""
"""Leaves the group with this number, of which it is the last, and makes another one that has the number."""


def test_another_group_that_has_the_number_by_now_gets_no_signal(box: Boxes, journal: Journal, tmp_path: Path) -> None:
    gate = pipe(tmp_path)
    before, after = shlex.join([sys.executable, "-c", THIEF]), shlex.join([str(gate), str(journal.path)])
    command = f"{before} $$ {after} & exit 0"
    # It may be noticed before the stop that the group is gone, and then that end is to stop nothing.
    b = box({"web": {"command": command, "essential": False}, "other": OTHER}, pid_1=True)
    b.started.wait_log("others of its process group are left")
    open_gate(gate)
    journal.wait("has the number")
    assert b.ask("stop", "web") == DONE
    assert b.services()["web"]["state"] in ("stopped", "ended")
    assert journal.lines() == ["has the number"]


@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOSYS])
def test_a_group_is_seen_to_live_and_to_be_gone_where_kill_is_refused(
    serve: Server, journal: Journal, refuse: str, tmp_path: Path, error: int
) -> None:
    """It ends only after some looks."""
    gate = pipe(tmp_path)
    script = f"{journal.note('life')}; (read _ <{gate}; {journal.note('leaves')}) & exit 0"
    services = {"web": {"command": script, "restart": "always:1", **FAST, "essential": False}}
    started = serve(services, prefix=(*AS_PID_1, refuse, "kill", str(error)))
    started.wait_log("others of its process group are left")
    run, switches = started.pid, "voluntary_ctxt_switches"
    before = int(status(run)[switches])
    wait_until(lambda: int(status(run)[switches]) > before + 2, "run has looked at it more than once")
    open_gate(gate)
    journal.wait("life", 2)
    assert journal.lines()[:3] == ["life", "leaves", "life"]
    open_gate(gate)
    assert started.wait() == 0


def test_looks_become_rare_and_a_signal_makes_them_frequent() -> None:
    lingering = Lingering()
    assert lingering.begins("web", 100.0) and not lingering.begins("web", 200.0)
    now, looks = 100.0, []
    for _ in range(12):
        assert lingering.due(now) == []
        now = lingering.next_time() or 0.0
        assert lingering.due(now) == ["web"]
        looks.append(now)
        lingering.looked("web", False, now)
    pauses = [after - before for before, after in zip([100.0, *looks], looks, strict=False)]
    assert pauses[0] < 2 * FIRST_PAUSE and pauses == sorted(pauses) and pauses[-1] < LONGEST_PAUSE + 0.01
    lingering.hurry("web", now)
    assert (lingering.next_time() or 0.0) - now < 2 * FIRST_PAUSE
    for _ in range(12):
        lingering.looked("web", True, now)
    assert (lingering.next_time() or 0.0) - now < LONGEST_WHILE_STOPPING + 0.01
    lingering.took(3.0, now)
    assert (lingering.next_time() or 0.0) - now > 10.0
    lingering.ends("web")
    assert lingering.next_time() is None and lingering.names() == []
