"""Contract, "A service's life": when a life is over, what its end means for the others, and when `run` ends."""

import os
import re
import signal
from pathlib import Path

import pytest
from harness import Starter, alive, children, open_gate, state, wait_until
from serving import AWAKE, FAST, FOREVER, HOUR, PID_1, Journal, Server, events, log_lines, send_until, wait_pid

# -- When a life is over -----------------------------------------------------------------------------------------------


@PID_1
@pytest.mark.parametrize("end", ["exit 0", "exec setsid sleep 1000"], ids=["ended", "in-another-session"])
def test_a_life_lasts_until_the_process_group_is_gone(
    serve: Server, journal: Journal, tmp_path: Path, pid_1: bool, end: str
) -> None:
    """The main process has ended with 0, and what it has started in its group goes on: so it is not restarted yet.

    The last one may leave the group by setsid(2): it is a process of nobody then, and goes on.
    """
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    script = f"{journal.note('main')}; (read _ <{gate}; {journal.note('rest')}; {end}) & exit 0"
    services = {"web": {"command": script, "restart": "always", **FAST}, "other": {"command": FOREVER}}
    started = serve(services, HOUR, pid_1=pid_1)
    started.wait_log("others of its process group are left")
    assert (events(started, "web")[-1], journal.lines()) == (
        "exited with code 0; others of its process group are left",
        ["main"],
    )
    open_gate(gate)
    journal.wait("main", 2)
    assert journal.lines() == ["main", "rest", "main"]
    started.send(signal.SIGTERM)
    assert started.wait() == 0


@PID_1
@pytest.mark.parametrize("end", ["exit 3", "kill -KILL $$"])
def test_after_a_crash_what_is_left_of_the_group_is_killed(
    serve: Server, journal: Journal, pid_1: bool, end: str
) -> None:
    script = f"{journal.note('main')}; (trap '' TERM; sleep 1000; {journal.note('survived')}) & {end}"
    started = serve({"web": {"command": script, "restart": "always:2", **FAST}}, pid_1=pid_1)
    assert started.wait() == (3 if end == "exit 3" else 137)
    assert journal.lines() == ["main"] * 3
    killed = len(re.findall(r"pid \d+: killed by KILL", "\n".join(log_lines(started))))
    assert killed >= 3 or not pid_1


def test_no_process_of_a_crashed_life_is_left_when_the_next_one_begins(serve: Server, journal: Journal) -> None:
    """Each life writes down who is in the process group of the last one."""
    script = (
        "for i in 1 2 3 4 5; do sleep 1000 & done; "
        f'for p in $(tail -n1 "{journal.path}"); do kill -0 -- -$p 2>/dev/null && {journal.note("left")}; done; '
        f"{journal.note('$$')}; exit 1"
    )
    started = serve({"web": {"command": script, "restart": "always:20", **FAST}})
    assert started.wait() == 1
    assert len(journal.lines()) == 21 and "left" not in journal.lines()


def test_the_group_is_killed_while_the_main_process_is_not_reaped_yet(
    binary: str, serve: Server, tmp_path: Path
) -> None:
    """So its number cannot mean another group: waitid(2) with WNOWAIT, kill(2), and only then the reaping wait4(2)."""
    file = serve.file({"web": {"command": "sleep 1000 & exit 3"}})
    trace = tmp_path / "trace"
    strace = Starter("strace", tmp_path)
    started = strace(
        "-qq", "-o", str(trace), "-e", "trace=kill,waitid,wait4", "-e", "signal=none", binary, "-f", str(file)
    )
    assert started.wait() == 3
    pid = re.findall(r"web \(pid (\d+)\): started", started.log())[0]
    calls = trace.read_text().splitlines()
    seen = next(i for i, call in enumerate(calls) if f"si_pid={pid}" in call and "WNOWAIT" in call)
    killed = next(i for i, call in enumerate(calls) if call.startswith(f"kill(-{pid}, SIGKILL)"))
    reaped = next(i for i, call in enumerate(calls) if re.match(rf"wait4\({pid}, .*\) += {pid}$", call))
    assert seen < killed < reaped


@PID_1
def test_what_leads_a_session_of_its_own_ends_by_itself(serve: Server, journal: Journal, pid_1: bool) -> None:
    """A crash does not reach it, and it is not waited for before the next life."""
    away = f'trap "{journal.note("told")}; exit" TERM; {journal.note("away")}; {AWAKE}'
    script = f"""
        if [ -s "{journal.path}" ]; then {journal.note("second")}; {FOREVER}; fi
        setsid sh -c '{away}' &
        until [ -s "{journal.path}" ]; do sleep 0.01; done
        {journal.note("main")}; exit 1
    """
    started = serve({"web": {"command": script, "restart": "always", **FAST}}, pid_1=pid_1)
    journal.wait("second")
    assert journal.lines() == ["away", "main", "second"]
    wait_pid(started, "web", 2)
    assert len(children(started.pid)) == 2
    started.send(signal.SIGTERM)
    started.wait()
    assert journal.lines() == ["away", "main", "second", "told"]


# -- What an end means -------------------------------------------------------------------------------------------------


@PID_1
@pytest.mark.parametrize(("end", "code"), [("exit 0", 0), ("exit 3", 3), ("kill -KILL $$", 137)])
def test_the_end_of_an_essential_service_stops_all(serve: Server, end: str, code: int, pid_1: bool) -> None:
    services = {"web": {"command": end}, "db": {"command": FOREVER}, "log": {"command": FOREVER, "essential": False}}
    started = serve(services, pid_1=pid_1)
    assert started.wait() == code
    assert f"shutdown, since web has {'failed' if code else 'ended'}" in log_lines(started)
    assert [events(started, name)[-1] for name in ("db", "log")] == ["killed by TERM (15); stopped"] * 2


@pytest.mark.parametrize("end", ["exit 0", "exit 3", "kill -KILL $$"])
def test_the_end_of_another_one_stops_nobody(serve: Server, journal: Journal, end: str) -> None:
    started = serve(
        {
            "extra": {"command": end, "essential": False},
            "web": {"command": f"trap '{journal.note('hup')}; exit 5' HUP; {AWAKE}"},
        }
    )
    started.wait_log("extra (pid ")
    wait_until(lambda: len(events(started, "extra")) == 2, "it has ended")
    assert "shutdown" not in started.log()
    send_until(started, signal.SIGHUP, journal.lines, "the other one is there")
    assert started.wait() == 5


def test_an_end_is_for_good_only_after_the_last_restart(serve: Server, journal: Journal) -> None:
    started = serve(
        {
            "web": {"command": f"{journal.note('life')}; exit 3", "restart": "on-failure:3", **FAST},
            "db": {"command": FOREVER},
        }
    )
    assert started.wait() == 3
    assert journal.lines() == ["life"] * 4
    assert started.log().count("shutdown") == 1


@PID_1
def test_the_success_of_a_oneshot_is_no_end(serve: Server, journal: Journal, pid_1: bool) -> None:
    """It is essential, like every service that does not say otherwise, and stops nobody."""
    started = serve({"migrate": {"command": "exit 0", "oneshot": True}, "web": {"command": FOREVER}}, pid_1=pid_1)
    started.wait_log("migrate (pid ")
    wait_until(lambda: events(started, "migrate")[1:] == ["exited with code 0; done"], "it is done")
    wait_pid(started, "web")
    assert "shutdown" not in started.log()
    started.send(signal.SIGTERM)
    assert started.wait() == 0


@pytest.mark.parametrize("essential", [True, False])
def test_the_failure_of_a_oneshot_is_an_end(serve: Server, essential: bool) -> None:
    services = {
        "migrate": {"command": "exit 9", "oneshot": True, "essential": essential},
        "web": {"command": FOREVER, "essential": False},
    }
    started = serve(services)
    if not essential:
        started.wait_log("exited with code 9; failed")
        assert "shutdown" not in started.log()
        started.send(signal.SIGTERM)
    assert started.wait() == 9
    assert ("shutdown, since migrate has failed" in started.log()) == essential


@PID_1
def test_run_ends_where_nothing_is_left_that_runs_or_will_run(serve: Server, pid_1: bool) -> None:
    oneshots = {f"once{number}": {"command": "exit 0", "oneshot": True} for number in range(3)}
    started = serve({**oneshots, "extra": {"command": "exit 0", "essential": False}}, "-t3600", pid_1=pid_1)
    assert started.wait() == 0
    assert log_lines(started)[-2:] == [
        "shutdown, since no service is left",
        "no process is left: exiting with code 0",
    ]


def test_run_does_not_end_while_somebody_waits_to_be_restarted(serve: Server, journal: Journal) -> None:
    script = f'{journal.note("life")}; [ $(wc -l <"{journal.path}") -lt 3 ]'
    keys = {"command": script, "restart": "always:2", "restart_delay": 0.3, "essential": False}
    assert serve.result({"web": keys, "migrate": {"command": "exit 0", "oneshot": True}})[0] == 1
    assert len(journal.lines()) == 3


# -- Orphans -----------------------------------------------------------------------------------------------------------


@PID_1
def test_orphans_are_reaped_and_count_for_nothing(serve: Server, journal: Journal, pid_1: bool) -> None:
    """Neither for the exit code, nor for the shutdown."""
    orphans = 'for code in 1 2 99; do (setsid sh -c "exit $code" &); done'
    started = serve({"web": {"command": f"{orphans}; {FOREVER}"}}, pid_1=pid_1)
    for code in (1, 2, 99):
        started.wait_log(f"exited with code {code}\n")
    wait_until(lambda: len(children(started.pid)) == 1, "one child is left, and no zombie")
    assert "shutdown" not in started.log()
    started.send(signal.SIGTERM)
    assert started.wait() == 0


@PID_1
def test_orphans_by_the_thousand_are_reaped_while_services_go_on(serve: Server, pid_1: bool) -> None:
    storm = "i=0; while [ $((i += 1)) -le 3000 ]; do (/bin/true &); done; echo over"
    started = serve(
        {"storm": {"command": f"{storm}; {FOREVER}"}, "web": {"command": "kill -KILL $$", "restart": "always"}},
        "-q",
        pid_1=pid_1,
    )
    started.wait_out("storm | over\n")
    wait_until(lambda: not any(state(child) == "Z" for child in children(started.pid)), "no zombie is left")
    started.send(signal.SIGTERM)
    assert started.wait() == 137


def test_children_from_before_run_was_executed_are_reaped_and_count_for_nothing(
    serve: Server, tmp_path: Path, binary: str
) -> None:
    """As of `exec run` in a shell."""
    file = serve.file({"web": {"command": "until [ -e gone ]; do sleep 0.01; done"}})
    shell = Starter("sh", tmp_path)
    script = '(sleep 0.2; exit 44) & exec "$@"'
    started = shell("-c", script, "sh", binary, "-f", str(file), cwd=tmp_path)
    started.wait_log("exited with code 44")
    (tmp_path / "gone").touch()
    assert started.wait() == 0


def test_a_service_that_is_stopped_and_continued_has_not_ended(serve: Server) -> None:
    started = serve({"web": {"command": FOREVER}})
    pid = wait_pid(started, "web")
    os.kill(pid, signal.SIGSTOP)
    started.wait_log("stopped by STOP (19)")
    assert events(started, "web")[-1] == "stopped by STOP (19)"
    os.kill(pid, signal.SIGCONT)
    wait_until(lambda: state(pid) == "S", "it goes on")
    assert alive(started.pid) and "shutdown" not in started.log()
    started.send(signal.SIGTERM)
    assert started.wait() == 0
