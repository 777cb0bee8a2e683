"""Contract, "Ready and healthy": `notify`, sd_notify(3): a service tells itself when it is ready, and how it is."""

import os
import subprocess
from pathlib import Path

import pytest
from controlling import OTHER, Boxes, check, steadily
from faults import STRACE
from harness import DEADLINE, state, status, wait_until
from serving import FOREVER, PID_1, PYTHON, Journal, Server, events, log_lines, wait_pid

NOTIFY = {"notify": True}

TELL = """
import array, os, socket, sys, time
def tell(message, *descriptors, to=os.environ.get("NOTIFY_SOCKET", "")):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.connect("\\0" + to[1:])
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        notify.sendmsg([message.encode() if isinstance(message, str) else message], rights)
def note(line):
    with open(JOURNAL, "a") as file: print(line, file=file)
def wait(path):
    while not os.path.exists(path): time.sleep(0.01)
"""
"""What a service in Python has at hand."""


def telling(journal: Journal, program: str) -> list[str]:
    """The command of a service that runs this program, and then goes on for ever."""
    return [*PYTHON, f"JOURNAL = {str(journal.path)!r}\n{TELL}\n{program}\ntime.sleep(1000)"]


def notifying(command: object, **times: object) -> dict[str, object]:
    """A service that tells."""
    return {"command": command, "healthcheck": check(NOTIFY, **times)}


# -- READY and STATUS --------------------------------------------------------------------------------------------------


@PID_1
def test_READY_1_makes_a_service_ready(box: Boxes, journal: Journal, flag: Path, pid_1: bool) -> None:
    web = telling(journal, f"note('there'); wait({str(flag)!r}); tell('READY=1')")
    b = box({"web": notifying(web), "app": {**OTHER, "depends_on": ["web"]}}, pid_1=pid_1)
    journal.wait("there")
    states = {name: service["state"] for name, service in b.services().items()}
    assert states == {"web": "starting", "app": "waiting"}
    flag.touch()
    wait_pid(b.started, "app")
    assert b.services()["web"]["health"] == "healthy"
    assert [event.partition(",")[0] for event in events(b.started, "web")][1:] == ["ready"]


@pytest.mark.parametrize(
    "message",
    ["READY=1\n", "STATUS=x\nREADY=1", "X=y\n\n=\nREADY=1\nMAINPID=1\nERRNO=2\nFDSTORE=1", "READY=1\nREADY=1"],
)
def test_READY_1_is_a_line_among_others(serve: Server, journal: Journal, message: str) -> None:
    serve({"web": notifying(telling(journal, f"tell({message!r})"))}).wait_log("ready, ")


@pytest.mark.parametrize("message", ["", "\n", "READY", "READY=", "READY=0", "READY=11", " READY=1", "ready=1", "\0"])
def test_nothing_else_makes_it_ready(box: Boxes, journal: Journal, message: str) -> None:
    web = telling(journal, f"tell({message!r}); tell('STATUS=told'); note('told')")
    b = box({"web": notifying(web), "other": OTHER})
    assert b.wait_for("web", status="told")["state"] == "starting"
    assert log_lines(b.started)[1:] == [line for line in log_lines(b.started) if "started" in line]


def test_who_does_not_tell_in_time_has_failed(serve: Server) -> None:
    started = serve({"web": notifying(FOREVER, start_period=0.3), "other": OTHER})
    assert started.wait() == 124
    assert "not ready within 0.3 s" in events(started, "web")


def test_once_it_is_ready_no_more_is_asked(box: Boxes, journal: Journal) -> None:
    b = box({"web": notifying(telling(journal, "tell('READY=1')"), retries=1, timeout=0.01)})
    b.wait_for("web", state="ready")
    assert steadily(lambda: b.services()["web"]["health"] == "healthy", 0.5)
    assert b.cpu_seconds() < 1


def test_STATUS_is_shown_by_status(box: Boxes, journal: Journal, flag: Path) -> None:
    first = f"tell('STATUS=Loading: 10 %\\nREADY=1\\nSTATUS=Processing requests...'); wait({str(flag)!r}); "
    b = box({"web": notifying(telling(journal, first + "tell('STATUS=\\x1b[31m\\u00fc' + 'x' * 300)")), "other": OTHER})
    assert b.wait_for("web", state="ready")["status"] == "Processing requests..."
    lines = b.ask("status")[1].splitlines()
    assert [line.split()[0] for line in lines] == ["NAME", "web", "Processing", "other"]
    assert lines[2] == "  Processing requests..."
    flag.touch()
    shown = b.wait_for("web", status="\\x1b[31mü" + "x" * (200 - len("\x1b[31mü".encode())))
    assert len(shown["status"]) < 210, "at most 200 bytes"
    assert max(map(len, b.ask("status")[1].splitlines())) == 80


def test_the_next_life_has_to_tell_anew(box: Boxes, journal: Journal, flag: Path) -> None:
    web = telling(journal, f"note('life'); wait({str(flag)!r}); tell('READY=1\\nSTATUS=up'); time.sleep(1000)")
    b = box({"web": {**notifying(web), "restart": "always", "restart_delay": 0.01}})
    flag.touch()
    b.wait_for("web", state="ready", status="up")
    flag.unlink()
    assert b.ask("signal", "KILL", "web")[0] == 0
    journal.wait("life", 2)
    assert b.wait_for("web", restarts=1, state="starting")["status"] is None
    flag.touch()
    b.wait_for("web", state="ready", status="up")


# -- Who tells ---------------------------------------------------------------------------------------------------------


def test_each_service_has_a_socket_of_its_own_and_who_does_not_tell_has_none(serve: Server, journal: Journal) -> None:
    where = telling(journal, "note(os.environ.get('NOTIFY_SOCKET', 'none'))")
    services = {name: notifying(where) for name in ("one", "two")}
    started = serve({**services, "three": {"command": where}}, env={**os.environ, "NOTIFY_SOCKET": "/of/run"})
    wait_until(lambda: len(journal.lines()) == 3, "three have noted it")
    places = set(journal.lines())
    assert len(places) == 3 and "/of/run" in places, "what run itself was given is for others"
    ends = tuple(f"/{started.pid}/notify/{name}" for name in services)
    assert all(place.startswith("@run/") and place.endswith(ends) for place in places - {"/of/run"})


def test_the_file_cannot_take_the_socket_away(serve: Server, journal: Journal) -> None:
    keys = {"environment": {"NOTIFY_SOCKET": "/nowhere"}, "unset_environment": ["NOTIFY_SOCKET"]}
    serve({"web": {**notifying(telling(journal, "tell('READY=1')")), **keys}}).wait_log("ready, ")


@PID_1
@pytest.mark.parametrize(
    "who",
    [
        "os.fork() or tell('READY=1')",
        "os.fork() or (os.setsid(), tell('READY=1'))",
        "os.fork() or (os.setsid(), os.fork() or tell('READY=1'), time.sleep(1000))",
        "parent = os.getpid()\nif not os.fork():\n  if os.fork(): os._exit(0)\n  tell('READY=1')",
    ],
    ids=["child", "session", "grandchild", "orphan-of-its-session"],
)
def test_messages_of_the_services_own_processes_count(serve: Server, journal: Journal, who: str, pid_1: bool) -> None:
    """Of those of the main process's session, and of those that descend from it."""
    serve({"web": notifying(telling(journal, who))}, pid_1=pid_1).wait_log("ready, ")


@PID_1
def test_messages_of_what_a_main_process_has_left_in_its_group_count(
    box: Boxes, journal: Journal, flag: Path, pid_1: bool
) -> None:
    """The life goes on, and has to become ready in time."""
    web = telling(journal, f"if os.fork(): os._exit(0)\nwait({str(flag)!r}); tell('READY=1')")
    b = box({"web": notifying(web), "other": OTHER}, pid_1=pid_1)
    b.started.wait_log("others of its process group are left")
    flag.touch()
    b.wait_for("web", state="ready", health="healthy")
    assert b.stop() == 0


@PID_1
def test_messages_of_a_daemons_processes_count(box: Boxes, journal: Journal, pid_1: bool) -> None:
    program = "if os.fork(): os._exit(0)\nos.setsid()\nif os.fork(): os._exit(0)\ntell('READY=1')"
    b = box({"web": {**notifying(telling(journal, program)), "daemon": True}, "other": OTHER}, pid_1=pid_1)
    b.wait_for("web", state="ready", health="healthy")


def test_a_message_counts_whose_senders_parent_ends_while_it_is_looked_for(
    box: Boxes, journal: Journal, flag: Path, tmp_path: Path
) -> None:
    """The sender has another parent then, the daemon's keeper. It is strace(1) that holds `run` back meanwhile."""
    end, close = tmp_path / "end", {"x86_64": "3", "aarch64": "57"}[os.uname().machine]
    away = f"if os.fork(): os._exit(0)\nos.setsid()\nif os.fork(): wait({str(end)!r}); os._exit(0)"
    program = f"{away}\nnote(f'{{os.getpid()}} {{os.getppid()}}'); wait({str(flag)!r}); tell('READY=1')"
    b = box({"web": {**notifying(telling(journal, program)), "daemon": True}, "other": OTHER})
    sender, parent = map(int, wait_until(lambda: "".join(journal.lines()).split(), "it is there"))
    held = ("-e", "trace=close", "-e", "inject=close:delay_enter=3600s:when=1", "-P", f"/proc/{sender}/stat")
    strace = subprocess.Popen([STRACE, "--quiet=all", "-o", os.devnull, *held, "-p", str(b.run)])
    try:
        wait_until(lambda: status(b.run)["TracerPid"] != "0", "strace has attached itself")
        flag.touch()
        call = Path(f"/proc/{b.run}/syscall")
        wait_until(lambda: call.read_text().split()[0] == close, "run has read who the sender's parent is")
        end.touch()
        wait_until(lambda: not state(parent), "the parent is gone")
    finally:
        strace.kill()
        strace.wait(DEADLINE)
    b.wait_for("web", state="ready", health="healthy")


@PID_1
def test_messages_of_another_services_processes_count_for_nothing(box: Boxes, journal: Journal, pid_1: bool) -> None:
    """Of other services, and of orphans in sessions of their own, which nobody can tell whose they are."""
    orphan = "os.fork() or (os.setsid(), os.fork() and os._exit(0), time.sleep(0.3), tell('READY=1'), note('orphan'))"
    web = telling(journal, f"note(os.environ['NOTIFY_SOCKET']); {orphan}")
    place = "place = ''\nwhile not place: place = open(JOURNAL).readline().strip()\n"
    other = telling(journal, place + "tell('READY=1', to=place); note('other')")
    b = box({"web": notifying(web), "other": notifying(other)}, pid_1=pid_1)
    journal.wait("other")
    journal.wait("orphan")
    assert {service["state"] for service in b.services().values()} == {"starting"}


@pytest.mark.parametrize("uid", [0, 65534])
def test_messages_of_processes_from_outside_count_for_nothing(
    box: Boxes, journal: Journal, flag: Path, uid: int
) -> None:
    """Whoever they run as, and even if they name a process of the service's as their own (SCM_CREDENTIALS)."""
    web = telling(journal, f"note(os.environ['NOTIFY_SOCKET']); wait({str(flag)!r}); tell('READY=1')")
    b = box({"web": notifying(web), "other": OTHER})
    wait_until(journal.lines, "it is there")
    place = journal.lines()[0]
    subprocess.run([*PYTHON, f"{TELL}\ntell('READY=1\\nSTATUS=me', to={place!r})"], user=uid, check=True, env={})
    assert b.services()["web"]["state"] == "starting"
    assert b.services()["web"]["status"] is None
    flag.touch()
    b.wait_for("web", state="ready")


def test_messages_after_the_service_has_ended_count_for_nothing(box: Boxes, journal: Journal, flag: Path) -> None:
    """What was left of it speaks up while it waits to restart, and while its next life starts."""
    left = "tell('READY=1'); note('told')"
    program = f"os.fork() or (os.setsid(), wait({str(flag)!r}), {left.replace('; ', ', ')}, time.sleep(1000)); "
    web = {**notifying(telling(journal, program + "note('there'); sys.exit(3)")), "essential": False}
    b = box({"web": web, "other": OTHER})
    b.wait_for("web", state="failed")
    flag.touch()
    journal.wait("told")
    assert b.services()["web"]["state"] == "failed"
    assert b.ask("health", "web")[0] == 1


# -- systemd-notify, and odd messages ----------------------------------------------------------------------------------


def test_descriptors_that_are_sent_along_are_closed(box: Boxes, journal: Journal) -> None:
    """A barrier of sd_notify_barrier(3) is one: who waits for its end is not kept waiting."""
    program = """
reads, writes = os.pipe()
for number in range(100):
    tell(f"STATUS={number}", *[writes] * 8)
tell("READY=1\\nBARRIER=1", writes)
os.close(writes)
assert os.read(reads, 1) == b""
note("passed")
"""
    b = box({"web": notifying(telling(journal, program))})
    before = b.descriptors()
    journal.wait("passed")
    b.wait_for("web", state="ready")
    assert b.descriptors() <= before + 1


@pytest.mark.parametrize("size", [4095, 4096, 4097, 100_000])
def test_a_message_may_be_long(box: Boxes, journal: Journal, size: int) -> None:
    """Of one that is longer than 4096 bytes no more is read."""
    program = f"tell('STATUS=first\\nREADY=1\\nSTATUS='.ljust({size}, 'x')); note('told')"
    b = box({"web": notifying(telling(journal, program))})
    b.wait_for("web", state="ready", status="x" * 200)


@pytest.mark.parametrize("size", [212_000, 1_000_000])
def test_a_message_that_does_not_fit_into_a_socket_is_the_senders_to_see(
    box: Boxes, journal: Journal, size: int
) -> None:
    program = f"""
try:
    tell(b"X" * {size})
except OSError:
    note("refused")
tell("READY=1")
"""
    b = box({"web": notifying(telling(journal, program))})
    before = b.private_kilobytes()
    b.wait_for("web", state="ready")
    assert b.private_kilobytes() < before + 1000


@pytest.mark.parametrize("message", [b"\xff\xfe\nSTATUS=\xff\x00\n=READY=1", b"STATUS=\xed\xa0\x80", b"\n" * 4096])
def test_a_message_may_be_any_bytes(box: Boxes, journal: Journal, message: bytes) -> None:
    b = box({"web": notifying(telling(journal, f"tell({message!r}); note('told'); wait('/nowhere')")), "other": OTHER})
    journal.wait("told")
    assert b.services()["web"]["state"] == "starting"
    assert b.ask("status")[::2] == (0, "")
    assert "internal" not in b.started.log()


def test_messages_by_the_hundred_thousand_keep_nobody_waiting(box: Boxes, journal: Journal, flag: Path) -> None:
    """They cost no memory either: the sender has to wait."""
    flood = f"""
while not os.path.exists({str(flag)!r}):
    for _ in range(1000):
        tell("STATUS=" + "x" * 3000)
    note("told")
tell("READY=1")
"""
    b = box({"web": notifying(telling(journal, flood)), "other": OTHER})
    journal.wait("told", 3)
    before = b.private_kilobytes()
    for _ in range(20):
        assert b.services()["other"]["state"] == "ready"
    journal.wait("told", 100)
    assert b.private_kilobytes() < before + 1000
    flag.touch()
    b.wait_for("web", state="ready")
    assert b.stop() == 0


def test_messages_of_strangers_by_the_hundred_thousand_keep_nobody_waiting(
    box: Boxes, journal: Journal, flag: Path
) -> None:
    web = telling(journal, f"note(os.environ['NOTIFY_SOCKET']); wait({str(flag)!r}); tell('READY=1')")
    b = box({"web": notifying(web), "other": OTHER})
    wait_until(journal.lines, "it is there")
    flood = f"{TELL}\nwhile True: tell('READY=1' * 10, to={journal.lines()[0]!r})"
    stranger = subprocess.Popen([*PYTHON, flood], user=65534, env={})
    try:
        for _ in range(50):
            assert b.services()["web"]["state"] == "starting"
        flag.touch()
        b.wait_for("web", state="ready")
        assert b.stop() == 0
    finally:
        stranger.kill()
        stranger.wait()
