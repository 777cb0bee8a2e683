"""Contract, "Ready and healthy": no probe ever blocks `run`; one that hangs, forks, floods or is left is killed."""

import os
import signal
from pathlib import Path

import pytest
from controlling import OTHER, Box, Boxes, check
from harness import Started, alive, children, state, wait_until
from serving import FOREVER, PID_1, PYTHON, Journal, Server, descendants, events, pids, seen_from_here, wait_pid

ONCE = {"start_interval": 3600, "interval": 3600, "start_period": 7200}
"""Times of a healthcheck of which there is but one probe while a test looks on."""

FORK = "sh -c 'trap \"\" TERM; while :; do sleep 1000; done' & sh -c 'sleep 1000 & sleep 1000 & wait' &"
"""What leaves children and grandchildren in a process group."""


def hanging(journal: Journal, *before: str) -> list[str]:
    """A test that does this, notes its pid, and hangs, whatever signal it gets."""
    does = " ".join(["trap '' TERM INT HUP QUIT;", *before, journal.note("$$")])
    return ["CMD-SHELL", f"{does}; while :; do sleep 1000; done"]


def wait_for_probe(started: Started, journal: Journal) -> int:
    """The pid of the first probe, as it is seen from here."""
    wait_until(journal.lines, "the probe is there")
    return seen_from_here(started, int(journal.lines()[0]))


def wait_until_alone(started: Started, name: str = "web") -> None:
    """Wait until a service is all that is left, without a zombie."""
    pid = wait_pid(started, name)
    wait_until(lambda: descendants(started.pid) == [pid], "the service alone is left")


# -- Nobody waits ------------------------------------------------------------------------------------------------------


@PID_1
def test_while_a_probe_hangs_run_does_all_else(box: Boxes, journal: Journal, flag: Path, pid_1: bool) -> None:
    """It reaps, restarts, forwards signals, answers, and asks the others how they are."""
    services = {
        "web": {"command": FOREVER, "healthcheck": check({"test": hanging(journal)})},
        "db": {"command": FOREVER, "healthcheck": check({"test": ["true"]})},
        "hup": {"command": f"trap 'touch {flag}' HUP; while :; do sleep 0.01; done"},
        "app": {"command": "setsid sh -c '(exit 9) &'; exit 3", "restart": "always", "restart_delay": 0.01},
    }
    b = box(services, pid_1=pid_1)
    probe = wait_for_probe(b.started, journal)
    b.wait_for("db", state="ready", health="healthy")
    wait_until(lambda: len(pids(b.started, "app")) >= 5, "app restarts")
    b.started.wait_log("exited with code 9")

    def reached() -> bool:
        b.started.send(signal.SIGHUP)
        return flag.exists()

    wait_until(reached, "HUP is forwarded")
    assert b.services()["web"]["state"] == "starting"
    assert alive(probe) and len(journal.lines()) == 1


@PID_1
def test_the_end_of_all_does_not_wait_for_a_probe_that_hangs(serve: Server, journal: Journal, pid_1: bool) -> None:
    services = {"web": {"command": FOREVER, "healthcheck": check({"test": hanging(journal)})}}
    started = serve(services, "-t3600", pid_1=pid_1)
    pid = wait_for_probe(started, journal)
    started.send(signal.SIGTERM)
    assert started.wait() == 0
    assert not alive(pid)
    assert f"pid {journal.lines()[0]}" not in started.log(), "a probe's end is no event of the log"


@PID_1
def test_a_probe_that_floods_its_output_keeps_nobody_waiting(box: Boxes, flag: Path, pid_1: bool) -> None:
    """Neither does it cost memory."""
    flood = ["CMD-SHELL", f"[ -e {flag} ] && exit 0; exec yes"]
    services = {"web": {"command": FOREVER, "healthcheck": check({"test": flood}, timeout=1)}, "other": OTHER}
    b = box(services, pid_1=pid_1)
    wait_pid(b.started, "other")
    before = b.private_kilobytes()
    b.started.wait_log("not ready yet: no end within 1 s")
    assert b.services()["other"]["state"] == "ready"
    assert b.private_kilobytes() < before + 4000
    assert "y\\ny" not in b.started.log() + b.started.out()
    flag.touch()
    b.wait_for("web", state="ready")


def test_a_flood_before_a_failure_is_cut(serve: Server) -> None:
    test = ["CMD-SHELL", "i=0; while [ $((i += 1)) -le 200000 ]; do echo $i; done; exit 1"]
    started = serve({"web": {"command": FOREVER, "healthcheck": check({"test": test}, **ONCE)}})
    started.wait_log("not ready yet: exited with code 1: 1\\n2\\n3\\n")
    wait_until(lambda: len(events(started, "web")) == 2, "the line is whole")
    assert len(events(started, "web")[1]) < 4096


# -- What is killed ----------------------------------------------------------------------------------------------------


@PID_1
def test_a_probe_that_hangs_is_killed_with_its_process_group(serve: Server, journal: Journal, pid_1: bool) -> None:
    probe = check({"test": hanging(journal, FORK)}, timeout=1, **ONCE)
    started = serve({"web": {"command": FOREVER, "healthcheck": probe}}, pid_1=pid_1)
    over = "not ready yet: no end within 1 s"
    wait_until(
        lambda: len(descendants(started.pid)) >= 6 or over in started.log(),
        "the service, the probe and four that descend from it are there, or its time is over",
    )
    started.wait_log(over)
    wait_until_alone(started)
    assert not any(f"pid {pid}" in started.log() for pid in journal.lines()), "a probe's end is no event of the log"


@PID_1
@pytest.mark.parametrize("code", [0, 1])
def test_what_a_probe_that_has_ended_leaves_in_its_group_is_killed(serve: Server, pid_1: bool, code: int) -> None:
    test = ["CMD-SHELL", f"{FORK} exit {code}"]
    started = serve({"web": {"command": FOREVER, "healthcheck": check({"test": test}, **ONCE)}}, pid_1=pid_1)
    started.wait_log("not ready yet" if code else "ready, ")
    wait_until_alone(started)


@PID_1
def test_what_of_its_session_run_has_as_a_child_is_killed_too(serve: Server, journal: Journal, pid_1: bool) -> None:
    """It has left the process group, and its parent has ended; the probe itself hangs."""
    program = f"""
import os, time
if os.fork() == 0:
    parent = os.getpid()
    if os.fork() == 0:
        os.setpgid(0, 0)
        while os.getppid() == parent: time.sleep(0.01)
        with open({str(journal.path)!r}, "a") as file: print(os.getpid(), file=file)
        time.sleep(1000)
    os._exit(0)
os.wait()
time.sleep(1000)
"""
    probe = check({"test": [*PYTHON, program]}, timeout=2, **ONCE)
    started = serve({"web": {"command": FOREVER, "healthcheck": probe}}, pid_1=pid_1)
    orphan = wait_for_probe(started, journal)
    assert orphan in children(started.pid)
    started.wait_log("not ready yet: no end within 2 s")
    wait_until_alone(started)


@PID_1
def test_what_leads_a_session_of_its_own_is_reaped_when_it_ends_and_goes_last(
    serve: Server, journal: Journal, tmp_path: Path, pid_1: bool
) -> None:
    """As what a service has left does: it keeps nobody waiting, neither the next probe nor the end of all."""
    script = tmp_path / "script"
    script.write_text(f"trap '{journal.note('told')}; exit' TERM\n{journal.note('$$')}\nsleep 1000 & wait\n")
    test = ["CMD-SHELL", f"setsid sh {script} & until [ -s {journal.path} ]; do sleep 0.01; done"]
    started = serve({"web": {"command": FOREVER, "healthcheck": check({"test": test}, **ONCE)}}, pid_1=pid_1)
    started.wait_log("ready, ")
    left = wait_for_probe(started, journal)
    wait_until(lambda: left in children(started.pid), "it is an orphan")
    started.send(signal.SIGTERM)
    assert started.wait() == 0
    assert journal.lines()[1:] == ["told"]
    assert not alive(left)


@PID_1
@pytest.mark.parametrize("end", ["stop", "kill", "crash"])
def test_a_probe_that_outlives_its_service_is_killed(box: Boxes, journal: Journal, pid_1: bool, end: str) -> None:
    probe = check({"test": hanging(journal, FORK)})
    services = {"web": {"command": FOREVER, "healthcheck": probe, "essential": False}, "other": OTHER}
    b = box(services, pid_1=pid_1)
    pid = wait_for_probe(b.started, journal)
    if end == "crash":
        os.kill(wait_pid(b.started, "web"), signal.SIGSEGV)
    else:
        client = b.client(*(["stop", "web"] if end == "stop" else ["signal", "KILL", "web"]))
        assert client.wait() == 0
    wait_until(lambda: not state(pid), "it is killed and reaped")
    wait_until_alone(b.started, "other")
    assert len(journal.lines()) == 1


@PID_1
def test_a_probe_goes_with_run_itself(box: Boxes, journal: Journal, pid_1: bool) -> None:
    """Its parent-death signal is KILL."""
    b = box({"web": {"command": FOREVER, "healthcheck": check({"test": hanging(journal)})}}, pid_1=pid_1)
    pid = wait_for_probe(b.started, journal)
    os.kill(b.run, signal.SIGKILL)
    wait_until(lambda: not alive(pid), "it has ended")


# -- Odd probes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("test", "reason"),
    [
        (["/none/there"], "/none/there: not found"),
        (["none-there", "x"], "none-there: not found in PATH"),
        (["/etc"], "/etc: found, but cannot be executed: Permission denied"),
        (["/etc/passwd"], "/etc/passwd: found, but cannot be executed: Permission denied"),
    ],
)
def test_a_test_that_cannot_be_executed_is_a_failed_probe(serve: Server, test: list[str], reason: str) -> None:
    """And no failed life: it may be there the next time."""
    started = serve({"web": {"command": FOREVER, "healthcheck": check({"test": test}, start_period=1)}})
    assert started.wait() == 124
    assert events(started, "web")[1:3] == [f"not ready yet: {reason}", f"not ready within 1 s: {reason}"]


def test_a_test_whose_directory_is_gone_is_a_failed_probe(serve: Server, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    keys = {"command": f"rmdir {folder}; {FOREVER}", "working_dir": str(folder)}
    started = serve({"web": {**keys, "healthcheck": check({"test": ["true"]}, start_interval=0.2, interval=0.2)}})
    started.wait_log(f"{folder}: No such file or directory")


def test_a_probe_that_is_stopped_has_not_ended(serve: Server, journal: Journal) -> None:
    test = ["CMD-SHELL", f"{journal.note('$$')}; kill -STOP $$"]
    started = serve({"web": {"command": FOREVER, "healthcheck": check({"test": test}, timeout=1, **ONCE)}})
    pid = wait_for_probe(started, journal)
    started.wait_log("not ready yet: no end within 1 s")
    wait_until(lambda: not state(pid), "it is killed and reaped")
    wait_until_alone(started)


def test_a_probe_that_closes_its_output_is_waited_for(serve: Server) -> None:
    test = ["CMD-SHELL", "echo before; exec >&- 2>&-; sleep 0.3; exit 4"]
    started = serve({"web": {"command": FOREVER, "healthcheck": check({"test": test}, **ONCE)}})
    started.wait_log("not ready yet: exited with code 4: before\n")


def test_what_keeps_a_probes_output_open_keeps_nobody_waiting(serve: Server, journal: Journal) -> None:
    """A grandchild in a session of its own holds the other end of the pipe."""
    test = ["CMD-SHELL", f"setsid sh -c '{journal.note('$$')}; exec sleep 1000' & exit 4"]
    started = serve({"web": {"command": FOREVER, "healthcheck": check({"test": test}, **ONCE)}})
    started.wait_log("not ready yet: exited with code 4\n")


@PID_1
def test_hundreds_of_probes_leave_nothing(box: Boxes, journal: Journal, pid_1: bool) -> None:
    """No zombie, no descriptor but the list of children, no memory."""
    test = ["CMD-SHELL", f"{journal.note('probe')}; sleep 1000 & echo x; exit 1"]
    times = {"interval": 0.001, "start_interval": 0.001}
    b = box({"web": {"command": FOREVER, "healthcheck": check({"test": test}, **times)}}, "-q", pid_1=pid_1)
    journal.wait("probe", 20)
    before = b.private_kilobytes(), b.descriptors()
    journal.wait("probe", 300)
    assert b.private_kilobytes() < before[0] + 1000
    assert b.descriptors() <= before[1] + 2
    assert stays_small(b)


def stays_small(b: Box) -> bool:
    """Whether only the service, and one probe with what it has started, are there, sooner or later."""
    return wait_until(lambda: len(descendants(b.run)) <= 4, "the others are gone")
