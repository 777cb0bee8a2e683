"""Contract, "Ready and healthy": `test`, a command that is run again and again until it succeeds: then all is ready."""

import signal
from pathlib import Path

import pytest
from controlling import OTHER, Boxes, check, probed, steadily, until
from harness import wait_until
from serving import FOREVER, PID_1, PYTHON, Journal, Line, Server, events, log_lines, pids, wait_pid

CLOCK = "read clock _ </proc/uptime"
"""What gives a shell the seconds of a steady clock."""


def clock() -> float:
    """The same for the test: with a hundredth less, which is its unit."""
    return float(Path("/proc/uptime").read_text().split()[0]) - 0.01


def assert_not_faster(journal: Journal, since: float, seconds: float) -> None:
    """Fail if one of the probes, which have noted the time, came before it may: they may be late, however much."""
    for number, line in enumerate(journal.lines()):
        assert float(line) >= since + number * seconds, (since, journal.lines())


# -- When there is a probe, and what follows ---------------------------------------------------------------------------


@PID_1
def test_its_first_success_makes_a_service_ready_and_who_depends_on_it_waits_for_that(
    box: Boxes, flag: Path, pid_1: bool
) -> None:
    services = {
        "web": {"command": FOREVER, "depends_on": ["app"]},
        "app": {"command": FOREVER, "depends_on": ["db"]},
        "db": {"command": FOREVER, "healthcheck": until(flag)},
        "other": OTHER,
    }
    b = box(services, pid_1=pid_1)
    b.started.wait_log("not ready yet")
    states = {name: service["state"] for name, service in b.services().items()}
    assert states == {"web": "waiting", "app": "waiting", "db": "starting", "other": "ready"}
    flag.touch()
    wait_pid(b.started, "web")
    lines = [line.partition(" (pid ")[0] for line in log_lines(b.started) if "started" in line or "ready, " in line]
    assert lines == ["db", "other", "db", "app", "web"]
    assert b.services()["db"]["state"] == "ready"
    assert b.stop() == 0


@pytest.mark.parametrize("failures", ["none", "1"])
def test_the_first_probe_comes_at_once(box: Boxes, journal: Journal, failures: str) -> None:
    """However long the intervals are: if it fails there is no other one for an hour."""
    times = {"start_interval": 3600, "interval": 3600, "start_period": 7200}
    probe = check({"test": probed(journal, failures)}, **times)
    b = box({"web": {"command": FOREVER, "healthcheck": probe}})
    if failures == "1":
        b.started.wait_log("not ready yet: exited with code 1")
    else:
        b.wait_for("web", state="ready")
    assert steadily(lambda: journal.lines() == ["probe"], 0.5)
    assert b.services()["web"]["state"] == ("starting" if failures == "1" else "ready")


def test_then_one_comes_each_start_interval_until_the_first_success(serve: Server, journal: Journal) -> None:
    note = f"{CLOCK}; {journal.note('$clock')}; [ $(wc -l <{journal.path}) -ge 5 ]"
    probe = check({"test": ["CMD-SHELL", note]}, start_interval=0.3, interval=3600)
    begin = clock()
    started = serve({"web": {"command": FOREVER, "healthcheck": probe}})
    started.wait_log("ready, ")
    assert len(journal.lines()) == 5
    assert_not_faster(journal, begin, 0.3)


def test_from_then_on_one_comes_each_interval(serve: Server, journal: Journal) -> None:
    note = f"{CLOCK}; {journal.note('$clock')}"
    probe = check({"test": ["CMD-SHELL", note]}, start_interval=0.01, interval=0.3)
    begin = clock()
    started = serve({"web": {"command": FOREVER, "healthcheck": probe}})
    wait_until(lambda: len(journal.lines()) >= 5, "five probes")
    assert_not_faster(journal, begin, 0.3)
    assert [event.partition(",")[0] for event in events(started, "web")[1:]] == ["ready"]


def test_the_next_probe_does_not_begin_before_the_last_one_has_ended(serve: Server, journal: Journal) -> None:
    note = f"{journal.note('begin')}; sleep 0.1; {journal.note('end')}; [ $(wc -l <{journal.path}) -ge 8 ]"
    probe = check({"test": ["CMD-SHELL", note]}, start_interval=0.01, interval=0.01)
    serve({"web": {"command": FOREVER, "healthcheck": probe}})
    journal.wait("end", 8)
    lines = journal.lines()
    assert lines == (["begin", "end"] * len(lines))[: len(lines)]


@PID_1
@pytest.mark.parametrize(("script", "code"), [(FOREVER, 124), ("trap 'exit 3' TERM; while :; do sleep 0.01; done", 3)])
def test_no_success_within_the_start_period_is_a_failed_life(
    serve: Server, pid_1: bool, script: str, code: int
) -> None:
    """It counts 124 if it ends well when it is stopped."""
    probe = check({"test": ["sh", "-c", "echo not yet; exit 5"]}, start_period=0.5)
    web = {"command": script, "healthcheck": probe, "restart": "on-failure:2", "restart_delay": 0.01}
    started = serve({"web": web, "other": OTHER}, pid_1=pid_1)
    assert started.wait() == code
    assert len(pids(started, "web")) == 3
    assert events(started, "web").count("not ready within 0.5 s: exited with code 5: not yet") == 3
    assert events(started, "web")[-1].endswith("; failed after 2 restarts")
    assert "shutdown, since web has failed" in log_lines(started)


def test_a_success_after_the_start_period_would_be_none(serve: Server, journal: Journal) -> None:
    """The probe that is under way then is killed with the life."""
    note = f"{journal.note('begin')}; sleep 1000; {journal.note('end')}"
    probe = check({"test": ["CMD-SHELL", note]}, start_period=0.5)
    started = serve({"web": {"command": FOREVER, "healthcheck": probe}})
    assert started.wait() == 124
    assert journal.lines() == ["begin"]
    assert "not ready within 0.5 s" in events(started, "web")


@PID_1
def test_a_probe_that_takes_longer_than_its_timeout_has_failed(serve: Server, journal: Journal, pid_1: bool) -> None:
    note = f"{journal.note('probe')}; [ $(wc -l <{journal.path}) -ge 3 ] || exec sleep 1000"
    probe = check({"test": ["CMD-SHELL", note]}, timeout=0.5)
    started = serve({"web": {"command": FOREVER, "healthcheck": probe}}, pid_1=pid_1)
    started.wait_log("ready, ")
    assert events(started, "web")[1] == "not ready yet: no end within 0.5 s"
    assert journal.lines()[:3] == ["probe"] * 3


def test_a_service_that_is_started_again_has_to_be_ready_anew(box: Boxes, flag: Path) -> None:
    """By an order, and after a crash; what it had told and what was wrong with it belongs to the last life."""
    flag.touch()
    b = box({"web": {"command": FOREVER, "healthcheck": until(flag), "restart": "always", "restart_delay": 0.01}})
    pid = b.wait_for("web", state="ready", health="healthy")["pid"]
    flag.unlink()
    b.wait_for("web", health="unhealthy")
    b.client("restart", "web")
    b.wait_for("web", state="starting", health="starting")
    flag.touch()
    assert b.wait_for("web", state="ready", health="healthy")["pid"] != pid
    flag.unlink()
    assert b.ask("signal", "KILL", "web")[0] == 0
    b.wait_for("web", state="starting", health="starting", restarts=1)
    flag.touch()
    assert b.wait_for("web", state="ready", health="healthy")["health_reason"] is None


def test_a_daemon_with_a_healthcheck_is_ready_by_that_alone(box: Boxes, flag: Path) -> None:
    """And not already when its first process has ended with 0."""
    script = "setsid sleep 1000 & exit 0"
    b = box({"web": {"command": script, "daemon": True, "healthcheck": until(flag)}, "other": OTHER})
    b.started.wait_log("not ready yet")
    assert steadily(lambda: b.services()["web"]["state"] == "starting", 0.3)
    flag.touch()
    b.wait_for("web", state="ready", health="healthy")


# -- What is executed, and where ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "test",
    [
        ["CMD", "touch", "a b"],
        ["touch", "a b"],
        ["CMD-SHELL", "touch 'a b' && :"],
        "touch 'a b'",
        "CMD-SHELL-is-none || true",
    ],
)
def test_the_words_of_a_test_are_those_of_compose(serve: Server, tmp_path: Path, test: object) -> None:
    keys = {"command": FOREVER, "working_dir": str(tmp_path), "healthcheck": check({"test": test})}
    if test == "CMD-SHELL-is-none || true":
        code, _, log = serve.result({"web": keys})
        assert code == 125 and "'||' is an operator of a shell" in log
        return
    serve({"web": keys}).wait_log("ready, ")
    assert (tmp_path / "a b").exists()


@PID_1
@pytest.mark.parametrize("user", [None, "1234:4321", "nobody"])
def test_a_test_runs_as_the_service_does(serve: Server, public: Path, user: str | None, pid_1: bool) -> None:
    """As its user, in its environment, directory and umask; in a session of its own, with nothing else open."""
    public.chmod(0o777)
    program = """
import os, sys
fields = [line.partition(":") for line in open("/proc/self/status")]
kept = ("Uid", "Gid", "Groups", "CapEff", "SigBlk", "SigIgn", "SigCgt", "Umask", "NoNewPrivs")
report = [f"{name}={value.strip()}" for name, _, value in fields if name in kept] + sorted(map(str, os.environ.items()))
report += [os.getcwd(), str(os.getpriority(os.PRIO_PROCESS, 0)), os.readlink("/proc/self/fd/0")]
own = [os.getsid(0) == os.getpid(), os.getpgid(0) == os.getpid(), sorted(map(int, os.listdir("/proc/self/fd")))[:-1]]
with open(sys.argv[1] + "+", "w") as file:
    print(*report, own, sep="\\n", file=file)
os.rename(sys.argv[1] + "+", sys.argv[1])
if sys.argv[1] == "service":
    import time; time.sleep(1000)
"""
    words = [*PYTHON, program.replace("$", "$$")]
    keys = {
        "command": [*words, "service"],
        "working_dir": str(public),
        "umask": "0027",
        "environment": {"LOG_LEVEL": "info", "HOME": "/nowhere"},
        "unset_environment": ["TERM"],
        "healthcheck": check({"test": [*PYTHON, program, "probe"]}, interval=3600),
        **({} if user is None else {"user": user}),
    }
    started = serve({"web": keys}, pid_1=pid_1)
    started.wait_log("ready, ")
    wait_until((public / "service").exists, "the service has told")
    service, probe = ((public / name).read_text().splitlines() for name in ("service", "probe"))
    assert probe == service
    assert probe[-1] == "[True, True, [0, 1, 2]]"
    assert {"1234:4321": "Uid=1234\t1234\t1234\t1234", None: "Uid=0\t0\t0\t0"}.get(user, probe[1]) in probe


def test_a_test_is_found_in_the_path_of_the_service(serve: Server, public: Path) -> None:
    program = public / "is-well"
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)
    keys = {"command": Line("/bin/sleep 1000"), "environment": {"PATH": str(public)}}
    serve({"web": {**keys, "healthcheck": check({"test": "is-well"})}}).wait_log("ready, ")


# -- What is said ------------------------------------------------------------------------------------------------------


def test_what_a_test_writes_is_shown_only_when_it_fails(serve: Server, journal: Journal) -> None:
    script = f"echo out; echo error >&2; {journal.note('probe')}; [ $(wc -l <{journal.path}) != 3 ]"
    keys = {"command": FOREVER, "healthcheck": check({"test": ["CMD-SHELL", script]})}
    started = serve({"web": keys})
    journal.wait("probe", 6)
    assert started.out() == ""
    assert [event for event in events(started, "web")[1:] if "ready" not in event] == [
        "healthcheck failed: exited with code 1: out\\nerror"
    ]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("exit 1", "exited with code 1"),
        ("echo; exit 255", "exited with code 255"),
        ("kill -SEGV $$", "killed by SEGV (11)"),
        ("printf 'a\\033[31m\\377\\n\\n'; exit 2", "exited with code 2: a\\x1b[31m\\xff"),
        ("yes 0123456 | head -c 1000000; exit 2", "exited with code 2: " + "\\n".join(["0123456"] * 256)),
    ],
)
def test_why_a_test_has_failed_is_said(serve: Server, script: str, reason: str) -> None:
    """Of its output the first 2048 bytes, in one line."""
    started = serve({"web": {"command": FOREVER, "healthcheck": check({"test": ["CMD-SHELL", script]})}})
    started.wait_log("not ready yet")
    wait_until(lambda: events(started, "web")[1:], "a whole line")
    assert events(started, "web")[1] == f"not ready yet: {reason}"
    assert started.out() == ""


def test_before_the_first_success_a_failure_is_said_when_its_reason_is_a_new_one_and_later_each_is_a_warning(
    serve: Server, journal: Journal
) -> None:
    script = f"""{journal.note("probe")}; n=$(wc -l <{journal.path})
        [ $n -lt 4 ] && exit 1; [ $n -lt 7 ] && exit 2; [ $n -lt 8 ]; [ $n -lt 9 ] || exit 3"""
    started = serve({"web": {"command": FOREVER, "healthcheck": check({"test": ["CMD-SHELL", script]}, retries=99)}})
    wait_until(lambda: started.log().count("code 3") >= 4, "four later failures")
    assert [event.partition(",")[0] for event in events(started, "web")[1:5]] == [
        "not ready yet: exited with code 1",
        "not ready yet: exited with code 2",
        "ready",
        "healthcheck failed: exited with code 3",
    ]
    levels = {line.split()[1] for line in started.log().splitlines() if "healthcheck failed" in line}
    assert levels == {"[warn]"}
    assert all(line.startswith("run: [info] ") for line in started.log().splitlines() if "not ready yet" in line)
    started.send(signal.SIGTERM)
    assert started.wait() == 0


# -- The main process has ended, and others of its process group live --------------------------------------------------


@PID_1
def test_what_is_left_of_a_group_has_to_become_ready_in_time(box: Boxes, pid_1: bool) -> None:
    late = check({"test": ["false"]}, start_period=0.5)
    web = {"command": "sleep 1000 & exit 0", "healthcheck": late, "essential": False}
    b = box({"web": web, "other": OTHER}, pid_1=pid_1)
    b.wait_for("web", state="failed", exit_code=0)
    assert "not ready within 0.5 s" in b.started.log()
    assert b.stop() == 124


@PID_1
def test_what_is_left_of_a_group_is_probed_still(box: Boxes, flag: Path, pid_1: bool) -> None:
    probe = until(flag) | {"interval": 0.05, "retries": 2}
    b = box({"web": {"command": "sleep 1000 & exit 0", "healthcheck": probe}, "other": OTHER}, pid_1=pid_1)
    b.started.wait_log("others of its process group are left")
    flag.touch()
    b.wait_for("web", state="ready", health="healthy")
    assert b.ask("health") == (0, "", "")
    flag.unlink()
    b.wait_for("web", health="unhealthy")
    assert b.ask("health")[0] == 1
