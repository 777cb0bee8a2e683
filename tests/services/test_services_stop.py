"""Contract, "A service's life": how all is stopped: in which order, by what, within which time, and what goes last."""

import re
import signal
import time

import pytest
from harness import children, wait_until
from serving import AWAKE, FOREVER, HOUR, PID_1, Journal, Server, events, log_lines, pids, wait_pid

"""A grace that is a failure to wait for."""


def deaf(journal: Journal, name: str) -> str:
    """A script that notes when it is ready, and is not ended by TERM."""
    return f"trap '' TERM; {journal.note(f'{name} ready')}; {FOREVER}"


# -- The order ---------------------------------------------------------------------------------------------------------


@PID_1
def test_who_depends_on_others_is_gone_before_they_are_told(serve: Server, journal: Journal, pid_1: bool) -> None:
    """Each takes a while to end, and notes when it does."""
    on = {"db": [], "app": ["db"], "web": ["app"]}
    services = {
        name: {
            "command": journal.told(name, f"sleep 0.2; {journal.note(f'{name} gone')}; exit 0"),
            "depends_on": o,
        }
        for name, o in on.items()
    }
    started = serve(services, HOUR, pid_1=pid_1)
    for name in on:
        journal.wait(f"{name} ready")
    started.send(signal.SIGTERM)
    assert started.wait() == 0
    assert journal.lines()[3:] == [f"{name} {what}" for name in ("web", "app", "db") for what in ("told", "gone")]


def test_those_that_do_not_depend_on_each_other_are_told_at_once(serve: Server, journal: Journal) -> None:
    """Each ends only once all have been told."""
    names = [f"s{number}" for number in range(5)]
    wait = f'while [ $(grep -c told "{journal.path}") -lt 5 ]; do sleep 0.01; done; exit 0'
    started = serve({name: {"command": journal.told(name, wait)} for name in names}, HOUR)
    for name in names:
        journal.wait(f"{name} ready")
    started.send(signal.SIGTERM)
    assert started.wait() == 0


def test_of_two_chains_neither_waits_for_the_other(serve: Server, journal: Journal) -> None:
    """The first chain's end hangs until the second one is all gone."""
    hang = f'until grep -q "db-2 told" {journal.path}; do sleep 0.01; done; exit 0'
    started = serve(
        {
            "db-1": {"command": journal.told("db-1")},
            "web-1": {"command": journal.told("web-1", hang), "depends_on": ["db-1"]},
            "db-2": {"command": journal.told("db-2")},
            "web-2": {"command": journal.told("web-2"), "depends_on": ["db-2"]},
        },
        HOUR,
    )
    for name in ("db-1", "web-1", "db-2", "web-2"):
        journal.wait(f"{name} ready")
    started.send(signal.SIGTERM)
    assert started.wait() == 0
    assert journal.lines()[-1] == "db-1 told"


def test_who_depends_on_it_through_one_that_does_not_run_is_waited_for_too(serve: Server, journal: Journal) -> None:
    """The one between has succeeded long ago."""
    started = serve(
        {
            "db": {"command": journal.told("db")},
            "migrate": {"command": "exit 0", "oneshot": True, "depends_on": ["db"]},
            "web": {
                "command": journal.told("web", f"sleep 0.3; {journal.note('web gone')}; exit 0"),
                "depends_on": ["migrate"],
            },
        },
        HOUR,
    )
    journal.wait("web ready")
    journal.wait("db ready")
    started.send(signal.SIGTERM)
    assert started.wait() == 0
    assert journal.lines()[2:] == ["web told", "web gone", "db told"]


@PID_1
def test_what_belongs_to_no_service_goes_last(serve: Server, journal: Journal, pid_1: bool) -> None:
    """An orphan in a session of its own: it is told when no service is left, and gets its time, too."""
    orphan = f'trap "{journal.note("orphan told")}; sleep 0.2; {journal.note("orphan gone")}; exit 9" TERM; '
    orphan += f"{journal.note('orphan ready')}; {AWAKE}"
    web = journal.told("web", f"sleep 0.2; {journal.note('web gone')}; exit 0")
    script = f"sh -c 'setsid sh -c \"$0\" &' '{orphan}'; {web}"
    started = serve({"web": {"command": script}}, HOUR, pid_1=pid_1)
    journal.wait("orphan ready")
    journal.wait("web ready")
    wait_until(lambda: len(children(started.pid)) == 2, "the orphan is a child of run")
    started.send(signal.SIGTERM)
    assert started.wait() == 0
    assert journal.lines()[2:] == ["web told", "web gone", "orphan told", "orphan gone"]


def test_what_is_left_of_an_orphan_that_ends_upon_the_signal_is_told_too(serve: Server, journal: Journal) -> None:
    inner = f'trap "{journal.note("inner told")}; exit 0" TERM; {journal.note("inner ready")}; {AWAKE}'
    outer = f'setsid sh -c "$1" & {AWAKE}'
    script = f"(setsid sh -c '{outer}' sh '{inner}' &); {journal.told('web')}"
    started = serve({"web": {"command": script}}, HOUR)
    journal.wait("inner ready")
    journal.wait("web ready")
    started.send(signal.SIGTERM)
    assert started.wait() == 0
    assert journal.lines()[-2:] == ["web told", "inner told"]


# -- What is sent ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["TERM", "QUIT", "INT", "HUP", "USR1", "WINCH", "KILL", "RTMIN+3", "SIGRTMAX-1", "12"])
def test_each_gets_its_own_stop_signal(serve: Server, name: str) -> None:
    number = {"RTMIN+3": 37, "SIGRTMAX-1": 63, "12": 12}.get(name) or signal.Signals[f"SIG{name}"].value
    trap = "; ".join(f"trap 'exit {n}' {n}" for n in (1, 2, 3, 10, 12, 15, 28, 37, 63))
    script = f"{trap}; echo ready; {AWAKE}"
    started = serve({"web": {"command": ["/bin/bash", "-c", script], "stop_signal": name}}, HOUR)
    started.wait_out("ready")
    started.send(signal.SIGTERM)
    assert started.wait() == (0 if name == "KILL" else number)
    assert re.search(rf"sending \S+ \({number}\) to web \(pid ", started.log())


def test_the_signal_goes_to_the_whole_process_group(serve: Server, journal: Journal) -> None:
    child = journal.told("child")
    main = f'sh -c "$0" & {journal.told("main")}'
    started = serve({"web": {"command": ["/bin/sh", "-c", main.replace("$", "$$"), child.replace("$", "$$")]}}, HOUR)
    journal.wait("child ready")
    journal.wait("main ready")
    started.send(signal.SIGTERM)
    assert started.wait() == 0
    assert sorted(journal.lines()[2:]) == ["child told", "main told"]


def test_with_kill_mode_mixed_it_goes_to_the_main_process_alone_and_what_that_leaves_is_killed(
    serve: Server, journal: Journal
) -> None:
    child = journal.told("child")
    main = f'sh -c "$0" & {journal.told("main", "sleep 0.3; exit 0")}'
    command = ["/bin/sh", "-c", main.replace("$", "$$"), child.replace("$", "$$")]
    started = serve({"web": {"command": command, "kill_mode": "mixed"}}, HOUR)
    journal.wait("child ready")
    journal.wait("main ready")
    started.send(signal.SIGTERM)
    assert started.wait() == 0
    assert journal.lines()[2:] == ["main told"]


# -- The time ----------------------------------------------------------------------------------------------------------


@PID_1
def test_when_all_are_gone_run_exits_at_once_and_waits_out_no_grace(serve: Server, pid_1: bool) -> None:
    keys = {"command": FOREVER, "stop_grace_period": 3600}
    started = serve({"db": keys, "web": {**keys, "depends_on": ["db"]}}, "-t7200", pid_1=pid_1)
    wait_pid(started, "web")
    started.send(signal.SIGTERM)
    assert started.wait() == 0


@PID_1
def test_who_does_not_end_by_its_signal_gets_KILL_after_the_grace(serve: Server, journal: Journal, pid_1: bool) -> None:
    started = serve({"web": {"command": deaf(journal, "web")}}, "-t0.5", pid_1=pid_1)
    journal.wait("web ready")
    begin = time.monotonic()
    started.send(signal.SIGTERM)
    assert started.wait() == 137
    assert time.monotonic() - begin >= 0.5
    assert [line for line in log_lines(started) if line.startswith("sending")] == [
        f"sending TERM (15) to web (pid {pids(started, 'web')[0]})",
        f"sending KILL (9) to web (pid {pids(started, 'web')[0]})",
    ]


def test_the_grace_is_9_seconds_where_nothing_else_is_said(serve: Server, journal: Journal) -> None:
    """It is long enough for an end that takes 8 s, and KILL comes before docker's 10 s."""
    slow = journal.told("slow", "sleep 8; exit 0")
    started = serve({"slow": {"command": slow}, "deaf": {"command": deaf(journal, "deaf")}})
    journal.wait("slow ready")
    journal.wait("deaf ready")
    begin = time.monotonic()
    started.send(signal.SIGTERM)
    assert started.wait() == 137
    assert time.monotonic() - begin >= 9.0
    assert events(started, "slow")[-1] == "exited with code 0; stopped"


def test_the_files_grace_is_that_of_all_together_and_t_overrides_it(serve: Server, journal: Journal) -> None:
    services = {"web": {"command": deaf(journal, "web")}}
    tops: tuple[dict[str, object], ...] = ({"stop_grace_period": "300ms"}, {"stop_grace_period": 3600})
    for number, (options, top) in enumerate(zip(((), ("-t0.3",)), tops, strict=True), 1):
        started = serve(services, *options, top=top)
        journal.wait("web ready", number)
        begin = time.monotonic()
        started.send(signal.SIGTERM)
        assert started.wait() == 137
        assert time.monotonic() - begin >= 0.3


def test_a_services_own_grace_ends_it_earlier(serve: Server, journal: Journal) -> None:
    """And then come those that it depends on."""
    started = serve(
        {
            "db": {"command": journal.told("db")},
            "web": {"command": deaf(journal, "web"), "stop_grace_period": "200ms", "depends_on": ["db"]},
        },
        HOUR,
    )
    journal.wait("db ready")
    journal.wait("web ready")
    started.send(signal.SIGTERM)
    assert started.wait() == 137
    assert events(started, "web")[1:] == ["its grace is over", "killed by KILL (9); failed"]
    assert journal.lines()[-1] == "db told"


def test_a_services_own_grace_is_never_longer_than_what_is_left_of_the_common_one(
    serve: Server, journal: Journal
) -> None:
    keys = {"command": deaf(journal, "web"), "stop_grace_period": 3600}
    started = serve({"web": keys}, "-t0.3")
    journal.wait("web ready")
    started.send(signal.SIGTERM)
    assert started.wait() == 137


def test_when_two_thirds_of_the_grace_are_over_every_service_has_got_its_signal(
    serve: Server, journal: Journal
) -> None:
    """Whoever hangs: the last of three in a row does, and is killed when the grace is over."""
    started = serve(
        {
            "db": {"command": journal.told("db")},
            "app": {"command": journal.told("app"), "depends_on": ["db"]},
            "web": {"command": deaf(journal, "web"), "depends_on": ["app"]},
        },
        "-t3",
    )
    for name in ("db", "app", "web"):
        journal.wait(f"{name} ready")
    begin = time.monotonic()
    started.send(signal.SIGTERM)
    journal.wait("db told")
    assert time.monotonic() - begin >= 2.0
    assert started.wait() == 137
    assert time.monotonic() - begin >= 3.0
    sent = [re.sub(r" \(pid .*", "", line) for line in log_lines(started) if line.startswith("sending")]
    assert (sent[0], sorted(sent[1:3]), sent[3]) == (
        "sending TERM (15) to web",
        ["sending TERM (15) to app", "sending TERM (15) to db"],
        "sending KILL (9) to web",
    )


@PID_1
def test_what_belongs_to_no_service_gets_KILL_when_the_grace_is_over(
    serve: Server, journal: Journal, pid_1: bool
) -> None:
    orphan = f"(setsid sh -c '{deaf(journal, 'orphan').replace(chr(39), chr(34))}' &)"
    started = serve({"web": {"command": f"{orphan}; {FOREVER}"}}, "-t0.5", pid_1=pid_1)
    journal.wait("orphan ready")
    started.send(signal.SIGTERM)
    assert started.wait() == 0
    assert re.search(r"pid \d+: killed by KILL \(9\)", started.log())
