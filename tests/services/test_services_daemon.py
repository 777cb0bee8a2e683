"""Contract, "The file", `daemon`: a service that puts itself into the background lives as long as its keeper does."""

import errno
import os
import re
import signal
from pathlib import Path

import pytest
from daemonizing import daemon, keeper, wait_settled
from harness import AS_PID_1, children, open_gate, state, wait_until
from identity import WHO, identified
from serving import FAST, FOREVER, HOUR, PID_1, Journal, Keys, Server, events, pids, wait_pid

# -- Ready -------------------------------------------------------------------------------------------------------------


@PID_1
def test_it_is_ready_when_its_first_process_has_ended_with_0(
    serve: Server, journal: Journal, tmp_path: Path, pid_1: bool
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    script = f"read _ <{gate}; {journal.note('forks')}; setsid sleep 1000 & exit 0"
    started = serve(
        {
            "web": {"command": f"{journal.note('web')}; {FOREVER}", "depends_on": ["daemon"]},
            "daemon": {"command": script, "daemon": True},
            "other": {"command": f"{journal.note('other')}; {FOREVER}"},
        },
        HOUR,
        pid_1=pid_1,
    )
    journal.wait("other")
    started.wait_log("daemon (pid ")
    assert journal.lines() == ["other"]
    open_gate(gate)
    journal.wait("web")
    assert journal.lines() == ["other", "forks", "web"]
    started.send(signal.SIGTERM)
    assert started.wait() == 0


@pytest.mark.parametrize(("end", "code"), [("exit 3", 3), ("kill -KILL $$", 137)])
def test_a_first_process_that_fails_is_a_failed_life_and_what_it_has_left_is_killed(
    serve: Server, journal: Journal, end: str, code: int
) -> None:
    """It counts what the first process has ended with, and not the KILL of the others."""
    script = f"""
        setsid sh -c 'trap "" TERM; {journal.note("left")}; {FOREVER}' &
        until [ -s {journal.path} ]; do sleep 0.01; done
        {end}
    """
    services = {
        "daemon": {"command": script, "daemon": True, "restart": "on-failure:2", **FAST},
        "web": {"command": journal.note("web"), "depends_on": ["daemon"]},
    }
    started = serve(services, HOUR)
    assert started.wait() == code
    assert "web" not in journal.lines()
    assert len(pids(started, "daemon")) == 3


@pytest.mark.parametrize(
    ("keys", "code"),
    [
        ({"command": ["/none/such"]}, 127),
        ({"command": ["/etc"]}, 126),
        ({"command": "exit 0", "working_dir": "/none/such"}, 126),
    ],
    ids=str,
)
def test_one_that_cannot_be_executed_has_failed_for_good(serve: Server, keys: Keys, code: int) -> None:
    started = serve({"daemon": {**keys, "daemon": True, "restart": "always", **FAST}})
    assert started.wait() == code
    (event,) = events(started, "daemon")
    assert "[error] daemon: " in started.log() and "next start" not in event and "internal" not in started.log()


def test_a_keeper_that_cannot_be_a_subreaper_is_one_clear_line(serve: Server, refuse: str) -> None:
    """`run` itself can do without, as PID 1: gVisor's kernel has none."""
    prefix = (*AS_PID_1, refuse, "subreaper", str(errno.EINVAL))
    started = serve({"daemon": {"command": "exit 0", "daemon": True}}, "-qq", prefix=prefix)
    assert started.wait() == 125
    reason = "cannot become a child subreaper: Invalid argument"
    assert started.log() == f"run: [error] daemon: {reason}; failed\n"


def test_one_that_ends_at_once_has_ended(serve: Server) -> None:
    started = serve({"daemon": {"command": "exit 0", "daemon": True}})
    assert started.wait() == 0
    assert events(started, "daemon")[-1] == "exited with code 0; ended"


# -- Life --------------------------------------------------------------------------------------------------------------


@PID_1
def test_it_lives_until_the_last_of_its_descendants_has_ended(serve: Server, journal: Journal, pid_1: bool) -> None:
    """However far, and in whatever session; its end is that of the keeper."""
    inner = f"until grep -q go {journal.path}; do sleep 0.01; done; {journal.note('last')}; exit 4"
    script = f'setsid setsid sh -c "{inner}" & {journal.note("middle")}; exit 0'
    started = serve({"daemon": daemon(script)}, HOUR, pid_1=pid_1)
    journal.wait("middle")
    wait_settled(started)
    wait_pid(started, "daemon")
    assert len(events(started, "daemon")) == 1 and "shutdown" not in started.log()
    with journal.path.open("a") as file:
        file.write("go\n")
    assert started.wait() == 4
    assert events(started, "daemon")[-1] == "exited with code 4; failed"


def test_the_code_of_a_life_is_the_highest_of_all_that_the_keeper_has_reaped(serve: Server) -> None:
    orphans = 'for code in 3 9 5; do (setsid sh -c "sleep 0.1; exit $code" &); done; exit 0'
    assert serve({"daemon": daemon(orphans)}).wait() == 9


@PID_1
def test_a_daemon_that_is_killed_has_crashed_and_is_restarted(serve: Server, journal: Journal, pid_1: bool) -> None:
    keys = daemon(f"{journal.note('up')}; {FOREVER}", restart="on-failure", **FAST)
    started = serve({"daemon": keys}, HOUR, pid_1=pid_1)
    for life in (1, 2, 3):
        journal.wait("up", life)
        os.kill(wait_settled(started)[0], signal.SIGKILL)
        started.wait_log(f"restart {life}\n")
    journal.wait("up", 4)
    wait_settled(started)
    started.send(signal.SIGTERM)
    assert started.wait() == 0
    assert started.log().count("exited with code 137; next start in 0.01 s") == 3


def test_its_orphans_are_reaped_by_its_keeper_and_by_nobody_else(serve: Server) -> None:
    """The keeper is a subreaper: no descendant of a daemon becomes a child of `run`."""
    storm = "i=0; while [ $((i += 1)) -le 500 ]; do (/bin/true &); done; echo over; exec sleep 1000"
    started = serve({"daemon": daemon(storm)}, HOUR)
    started.wait_out("daemon | over")
    kept = keeper(started)
    wait_until(lambda: [state(child) for child in children(kept)] == ["S"], "one child is left, and no zombie")
    assert children(started.pid) == [kept]
    assert not re.search(r"info\] pid \d+: exited", started.log())
    wait_settled(started)
    started.send(signal.SIGTERM)
    assert started.wait() == 0


def test_a_keeper_has_nothing_open_but_what_is_its_services(serve: Server) -> None:
    """Beside the pipe by which it tells of the start, and the list of its children."""
    services = {"daemon": daemon(FOREVER), **{f"s{n}": {"command": FOREVER} for n in range(5)}}
    started = serve(services, HOUR)
    wait_settled(started)
    pid = keeper(started)
    allowed = ["/dev/null", f"/proc/{pid}/task/{pid}/children", "pipe", "pipe", "pipe"]

    def opened() -> list[str]:
        return sorted(os.readlink(fd).partition(":")[0] for fd in Path(f"/proc/{pid}/fd").iterdir())

    wait_until(lambda: opened() == allowed, "it has opened the list of its children, which it does after it has told")
    started.send(signal.SIGTERM)
    assert started.wait() == 0


# -- All else ----------------------------------------------------------------------------------------------------------


def test_it_is_given_what_every_service_is(serve: Server, public: Path) -> None:
    script = f'{WHO}; pwd; umask; echo $ADDED$GONE; read x; echo end=$?; cut -d" " -f7 /proc/self/stat'
    keys = daemon(script, user="65534:65533", working_dir=str(public), umask="027", essential=False)
    more = {"environment": {"ADDED": "added"}, "unset_environment": ["GONE"]}
    env = {**os.environ, "GONE": "gone"}
    code, out, _ = serve.result({"daemon": {**keys, **more}}, "-q", env=env)
    text = re.sub(r"^daemon \| ", "", out, flags=re.MULTILINE)
    assert code == 0
    who = identified(text)
    assert (who.uid, who.gid, who.groups, who.home) == (65534, 65533, (65533,), b"/nonexistent")
    assert text.splitlines()[-5:] == [str(public), "0027", "added", "end=1", "0"]


@pytest.mark.parametrize("output", ["named", "plain", "inherit", "null"])
def test_its_output_is_that_of_a_service(serve: Server, output: str) -> None:
    code, out, log = serve.result({"d": daemon("echo out; echo err >&2; printf half", output=output)}, "-qq")
    assert code == 0
    assert (out, log) == {
        "named": ("d | out\nd | half\n", "d | err\n"),
        "plain": ("out\nhalf\n", "err\n"),
        "inherit": ("out\nhalf", "err\n"),
        "null": ("", ""),
    }[output]


def test_its_last_words_are_shown_before_its_next_life(serve: Server, journal: Journal) -> None:
    script = f"{journal.note('life')}; printf last; kill -KILL $$"
    keys = daemon(script, restart="on-failure:50", essential=False, restart_delay=0.001, restart_max_delay=0.001)
    code, out, _ = serve.result({"daemon": keys}, "-q")
    assert (code, out) == (137, "daemon | last\n" * 51)
    assert len(journal.lines()) == 51


@PID_1
def test_who_becomes_the_keepers_child_after_the_stop_signal_gets_it_too(
    serve: Server, journal: Journal, pid_1: bool
) -> None:
    """A session below the daemon's process is that one's business until it has ended."""
    folder = journal.path.parent
    folder.joinpath("below").write_text(journal.told("below"))
    folder.joinpath("main").write_text(f"setsid sh {folder}/below & {journal.told('main')}")
    started = serve({"daemon": daemon(f"exec sh {folder}/main")}, HOUR, pid_1=pid_1)
    journal.wait("below ready")
    journal.wait("main ready")
    wait_settled(started)
    started.send(signal.SIGTERM)
    assert started.wait() == 0
    assert journal.lines()[2:] == ["main told", "below told"]
    assert events(started, "daemon")[-1] == "exited with code 0; stopped"
