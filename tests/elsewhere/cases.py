"""The cases, the same for every engine: each is a function that takes the engine, and raises if something is not so."""

import random
import re
import time
from collections.abc import Callable

from boxes import Box, Engine, How, Typist
from harness import wait_until
from image import LINES, PORTS

Case = Callable[[Engine], None]

FEW = 6
"""How often a container is stopped in its first instants."""

TWO_SLEEPERS = ("-ds", "TERM", "-t", "200", "--", "sh", "-ec", "sleep 1000 & sleep 1000 &")
ORPHANS = """
i=0; while [ $((i += 1)) -le 100 ]; do (true &); done
for code in 1 2 3; do (sh -c "exit $code" &); done
(setsid sleep 1000 &)
exec sleep 1000
"""
STAT = ("sh", "-c", "cat /proc/[0-9]*/stat")


def file(name: str) -> tuple[str, ...]:
    """The words that start the services of a file of the image."""
    return ("-t", "200", "-f", f"/etc/{name}.toml")


def wait_healthy(box: Box) -> None:
    """Wait until `run` says that all services are ready and healthy."""
    wait_until(lambda: box.execute("/bin/run", "-c", "health")[0] == 0 or not box.running(), "all are well")
    assert box.running(), box.log()


def wait_sleepers(box: Box, number: int) -> None:
    """Wait until as many processes of its pid namespace have become a `sleep`: the last ones of ORPHANS do."""
    sleeper = re.compile(r"^\d+ \(sleep\) ", re.MULTILINE)
    wait_until(lambda: len(sleeper.findall(box.execute(*STAT)[1])) == number or not box.running(), f"{number} sleep")


def hardened(on: Engine) -> None:
    """Scratch, read-only, not root, no capabilities: one command, and services."""
    script = "id -u; grep -E 'Cap(Eff|Prm)' /proc/self/status; touch /x 2>/dev/null || echo read-only; exit 4"
    box = on("-q", "sh", "-c", script, how=How(hardened=True))
    assert box.exit_code() == 4, box.log()
    words = box.log().split()
    assert words == [f"{on.user}", "CapPrm:", "0" * 16, "CapEff:", "0" * 16, "read-only"], words
    services = on(*file("two"), how=How(hardened=True))
    wait_healthy(services)
    code, table = services.execute("/bin/run", "-c", "status")
    assert code == 0 and re.findall(r"^(\w+) +ready", table, re.MULTILINE) == ["db", "web"], table
    assert "[warn]" not in services.log() and "[error]" not in services.log(), services.log()
    assert services.stop() == 0, services.log()


def exit_codes(on: Engine) -> None:
    """Exit codes: of the command, of one that was killed, cannot be executed, is not there; wrong usage."""
    expected = {
        0: ("true",),
        3: ("sh", "-c", "exit 3"),
        137: ("sh", "-c", "kill -9 $$"),
        126: ("/etc",),
        127: ("/not/there",),
        125: ("-Z", "true"),
    }
    boxes = {code: on("-q", *words) for code, words in expected.items()}
    codes = {code: box.exit_code() for code, box in boxes.items()}
    assert codes == {code: code for code in expected}, codes


def stop(on: Engine) -> None:
    """Stop within the grace: all by TERM."""
    one, many = on(*TWO_SLEEPERS), on(*file("two"))
    wait_until(lambda: one.log().count("own pid") == 1 and one.wait_log("exited with code 0"), "both are started")
    wait_healthy(many)
    assert one.stop() == 143, one.log()
    assert one.log().count("killed by TERM (15)") == 2, one.log()
    assert many.stop() == 0, many.log()
    assert many.log().count("killed by TERM (15); stopped") == 2, many.log()


def kill_after_grace(on: Engine) -> None:
    """KILL after the grace: that of `run` itself, and that of the engine."""
    own = on("-f", "/etc/stubborn.toml")
    own.wait_log("web | deaf")
    assert own.stop() == 137, own.log()
    assert "sending KILL (9) to web" in own.log(), own.log()
    # The log has the script, too, before anything of it was done.
    engines = on("sh", "-c", "trap '' TERM; echo de''af; while :; do sleep 0.1; done", how=How(grace=2))
    engines.wait_log("deaf")
    begin = time.monotonic()
    assert engines.stop() == on.killed, engines.log()
    assert time.monotonic() - begin >= 2
    assert "forwarding TERM (15)" in engines.log(), engines.log()


def first_instants(on: Engine) -> None:
    """No signal is lost in the first instants."""
    for _ in range(FEW):
        box = on("sleep", "1000")
        box.wait_executed()
        time.sleep(random.uniform(0, 0.02))
        box.kill("TERM")
        assert box.exit_code() == 143, box.log()
        assert "killed by TERM" in box.log(), box.log()  # as `run` says of its child, not of itself


def orphans(on: Engine) -> None:
    """Orphans are reaped, and what has left its session is stopped, too."""
    box = on("sh", "-c", ORPHANS)
    for code in 1, 2, 3:
        box.wait_log(f"exited with code {code}")
    wait_until(lambda: box.log().count("exited with code 0") >= 100, "all are reaped")
    wait_sleepers(box, 2)
    _, found = box.execute(*STAT)
    assert not re.findall(r"^\d+ \(.*\) Z", found, re.MULTILINE), found
    assert box.stop() == 143, box.log()
    assert box.log().count("killed by TERM (15)") == 2, box.log()


def daemons(on: Engine) -> None:
    """One command starts two daemons that put themselves into the background; both are stopped."""
    first, second = (f"httpd -p 127.0.0.1:{port} -h /etc" for port in PORTS)
    box = on("-ds", "TERM", "-t", "200", "--", "sh", "-ec", f"{first} && {second}")
    box.wait_log("exited with code 0")
    _, found = box.execute(*STAT)
    assert len(re.findall(r"^\d+ \(httpd\) ", found, re.MULTILINE)) == 2, found
    assert box.stop() == 143, box.log()
    assert box.log().count("killed by TERM (15)") == 2, box.log()


def daemon_service(on: Engine) -> None:
    """A service that puts itself into the background is watched, restarted by hand, and stopped."""
    box = on(*file("daemon"))
    wait_healthy(box)
    assert box.execute("/bin/run", "-c", "restart", "web") == (0, "")
    wait_healthy(box)
    assert box.stop() == 0, box.log()
    assert "exited with code 143; stopped" in box.log(), box.log()


def services(on: Engine) -> None:
    """Several services from a file: in order, with names, restarted after a crash."""
    box = on(*file("two"))
    wait_healthy(box)
    started = re.compile(r"web \(pid (\d+)\): started")
    web = wait_until(lambda: started.findall(box.log()), "web is started")
    box.wait_log("web | up")
    assert box.execute("kill", "-9", web[0]) == (0, "")
    wait_until(lambda: len(started.findall(box.log())) == 2, "web is started again")
    wait_until(lambda: len(re.findall(r"^web \| up\r?$", box.log(), re.MULTILINE)) == 2, "its output is there")
    assert box.stop() == 0, box.log()
    order = re.findall(r"(?:sending TERM \(15\) to|: \[info\]) (\w+) \(pid \d+\)(?:: (started))?", box.log())
    names = [name for name, started in order if started]
    assert names == ["db", "web", "web"], box.log()
    assert re.findall(r"sending TERM \(15\) to (\w+)", box.log()) == ["web", "db"], box.log()


def health(on: Engine) -> None:
    """`-c health` is the engine's own health check, in an image without a shell in the way."""
    box = on(*file("two"), how=How(health=True))
    wait_until(lambda: box.health() == "healthy", "the engine says healthy")
    assert box.execute("/bin/run", "-c", "stop", "db") == (0, "")
    wait_until(lambda: box.health() == "unhealthy", "the engine says unhealthy")


def output(on: Engine) -> None:
    """Output is complete: every line of two services, whole and in order, with the last words before a crash."""
    box = on("-q", *file("lines"))
    assert box.exit_code() == 137, box.log()[-2000:]
    lines = box.out().split("\n")
    for name in "a", "b":
        theirs = [line.rstrip("\r") for line in lines if line.startswith(f"{name} | ")]
        complete = [f"{name} | line {n} of {name}" for n in range(1, LINES + 1)]
        until = len(theirs) if name == "a" else LINES  # a is stopped when b has failed
        wrong = [(n, line) for n, line in enumerate(theirs, 1) if line != f"{name} | line {n} of {name}"]
        assert theirs == complete[:until], f"{len(theirs)} lines of {name}, the first wrong one is {wrong[:1]}"


def pid_namespace(on: Engine) -> None:
    """In a shared pid namespace `run` is not PID 1, and looks after its own processes only."""
    first = on("sleep", "1000")
    first.wait_executed()
    box = on("sh", "-c", ORPHANS, how=How(beside=first))
    for code in 1, 2, 3:
        box.wait_log(f"exited with code {code}")
    wait_sleepers(box, 3)
    assert int(re.findall(r"own pid is (\d+)", box.log())[0]) > 1, box.log()
    assert box.stop() == 143, box.log()
    assert box.log().count("killed by TERM (15)") == 2, box.log()
    assert first.running()
    assert first.stop() == 143


def terminal(on: Engine) -> None:
    """At a terminal: what is typed comes to the command, and so does Ctrl-C."""
    first = "trap 'echo INT; exit 7' INT; [ -t 0 ] && echo a terminal"
    script = f"{first}; read line; echo got $line; while :; do sleep 0.1; done"
    typist = Typist(on.terminal("sh", "-c", script))
    typist.wait_out("a terminal\r\n")
    typist.type("hello\n")
    typist.wait_out("got hello")
    typist.type("\x03")
    code = typist.exit_code()
    assert code == 7, (code, typist.out)


def init(on: Engine) -> None:
    """Behind an init of the engine's own: `run` is not PID 1, and all is the same."""
    box = on("sh", "-c", ORPHANS, how=How(init=True))
    for code in 1, 2, 3:
        box.wait_log(f"exited with code {code}")
    wait_sleepers(box, 2)
    assert int(re.findall(r"own pid is (\d+)", box.log())[0]) > 1, box.log()
    assert box.stop() == on.stopped_by_init.code, box.log()
    assert len(re.findall(f"killed by {on.stopped_by_init.signals}", box.log())) == 2, box.log()


def users(on: Engine) -> None:
    """Services as users of their own, who open /dev/stdout anew."""
    box = on("-q", *file("users"))
    assert box.exit_code() == 0, box.log()
    theirs = {name: re.findall(rf"^{name} \| (\w+)\r?$", box.log(), re.MULTILINE) for name in "abc"}
    assert theirs == {"a": ["1000", "1001", "anew"], "b": ["33", "0", "anew"], "c": ["0", "0", "anew"]}, theirs


def ids(on: Engine) -> None:
    """In a user namespace: services have users, and an id that does not exist there is one clear line."""
    box = on("-q", *file("users"), how=How(ids=True))
    assert box.exit_code() == 0 and "a | 1000" in box.log(), box.log()
    box = on("-q", *file("unmapped"), how=How(ids=True))
    assert box.exit_code() == 125, box.log()
    assert len(box.log().splitlines()) == 1 and "1999999999" in box.log(), box.log()


CASES: dict[str, Case] = {
    "scratch, read-only, non-root, no capabilities": hardened,
    "exit codes": exit_codes,
    "stop within the grace": stop,
    "KILL after the grace": kill_after_grace,
    "no signal lost in the first instants": first_instants,
    "orphans": orphans,
    "daemons": daemons,
    "a daemon as a service": daemon_service,
    "several services from a file": services,
    "its own health check": health,
    "output complete": output,
    "a shared pid namespace": pid_namespace,
    "a terminal": terminal,
    "its own init before run": init,
    "a user for each service": users,
    "a user namespace": ids,
}
