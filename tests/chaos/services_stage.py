"""The stage of the chaos tests of services: the real `run -f` and its services, the puppets of chaos_service.c."""

import json
import os
import re
import selectors
import signal
import socket
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from chaos_stage import place_of_sleep
from controlling import check
from harness import Starter, children, state, status
from services_world import HANG, NEVER, SHORT, Member, Seen, Spec
from serving import file_of

LINE = re.compile(r"run: \[\w+\] (.*)")
ABOUT = re.compile(r"(\w+)(?: \(pid \d+\))?: (.*)")
ORPHAN = re.compile(r"pid \d+: (?:exited with code (\d+)|killed by (?:signal |\w+ \()(\d+)\)?)")
NOISE = re.compile(r"(healthcheck failed|not ready yet): |own pid is |sending \w+ \(\d+\) to (group|pid) ")
"""Lines of which there may be any number, or whose words are not foreseen."""
PASSED_ON = re.compile(r"(\w+) ([|+]) (.*)")


class Puppet:
    """A process that has said who it is."""

    def __init__(self, connection: socket.socket) -> None:
        """Take its connection."""
        self.connection = connection
        self.pid = int.from_bytes(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4], "little")
        self.is_busy = False


class ServicesStage:
    """One `run` with its services; everything that is seen of them."""

    def __init__(self, start: Starter, puppet: Path, folder: Path, specs: Mapping[str, Spec], grace: float) -> None:
        """Start it, with this common grace in seconds."""
        self.specs = specs
        self._grace = grace
        self.puppets: dict[Member, Puppet] = {}
        self.begun: dict[Member, int] = {}
        self.last: dict[Member, int] = {}
        """When each process has begun, and has done the last thing that it was told, in nanoseconds."""
        self.got_at: dict[tuple[Member, int], int] = {}
        """When each process has got a signal for the first time."""
        self.died_at: dict[Member, int] = {}
        """When each process was seen to have ended."""
        self.seen = Seen()
        self.orphans: Counter[int] = Counter()
        self.history: list[tuple[str, str]] = []
        """The log: whom each line is about, and what it says."""
        self._folder = folder
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        name = f"chaos/{os.getpid()}/{time.monotonic_ns()}"
        self._listener.bind(f"\0{name}")
        self._listener.listen(64)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._unknown: set[socket.socket] = set()
        file = folder / f"services-{time.monotonic_ns()}.toml"
        keys = {service: self._keys(service, spec, str(puppet), name) for service, spec in specs.items()}
        file.write_text(file_of(keys, stop_grace_period=grace))
        self.started = start("-f", str(file))

    def _keys(self, name: str, spec: Spec, puppet: str, place: str) -> dict[str, object]:
        """The keys of a service."""
        words = [puppet, place, name, str(spec.stop_signal), str(spec.how)]
        keys: dict[str, object] = {
            "command": words + ["daemon"] * spec.daemon,
            "depends_on": list(spec.depends_on),
            "oneshot": spec.oneshot,
            "essential": spec.essential,
            "restart": spec.restart if spec.limit is None else f"{spec.restart}:{spec.limit}",
            "restart_delay": spec.delay,
            "restart_max_delay": spec.max_delay,
            "stop_signal": signal.Signals(spec.stop_signal).name,
            "kill_mode": spec.kill_mode,
            "on_unhealthy": spec.on_unhealthy,
            "output": spec.output,
            "daemon": spec.daemon,
        }
        if spec.how == HANG and self._grace == NEVER:
            keys["stop_grace_period"] = SHORT
        if spec.check == "test":
            self.show(name, well=False)
            keys["healthcheck"] = check({"test": ["CMD", puppet, "probe", str(self._flag(name))]}, retries=2)
        elif spec.check:
            late = {"start_period": SHORT} if spec.check == "late" else {}
            keys["healthcheck"] = {"notify": True, "start_period": 3600, **late}
        return keys

    def _flag(self, name: str) -> Path:
        return self._folder / f"well-{name}"

    # -- Doing --------------------------------------------------------------------------------------------------------

    def show(self, name: str, well: bool) -> None:
        """Have a healthcheck by a file succeed from now on, or fail."""
        if well:
            self._flag(name).touch()
        else:
            self._flag(name).unlink(missing_ok=True)

    def tell(self, member: Member, order: str) -> None:
        """Tell a process to do something."""
        puppet = self.puppets[member]
        puppet.is_busy = True
        puppet.connection.send(order.encode())

    def kill(self, member: Member, signum: int) -> None:
        """Send a process a signal."""
        self.last[member] = time.monotonic_ns()
        os.kill(self.puppets[member].pid, signum)

    def order(self, action: str, names: tuple[str, ...]) -> socket.socket:
        """Ask `run`; return the connection on which it answers."""
        namespace = re.sub("[^0-9]", "", os.readlink(f"/proc/{self.started.pid}/ns/mnt"))
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.connect(f"\0run/{namespace}/{self.started.pid}")
        words = ["USR1", *names] if action == "signal" else list(names)
        connection.sendall(json.dumps({"action": action, "words": words}).encode() + b"\n")
        connection.settimeout(0)
        return connection

    # -- Seeing -------------------------------------------------------------------------------------------------------

    def look(self) -> Seen:
        """Take note of everything that there is to be seen now."""
        code = self.started.process.poll()
        while self._hear():
            pass
        self._read_log()
        self.seen.code = code
        self.seen.alive = set(self.puppets)
        self.seen.lines = {}
        for stream, text in ((1, self.started.out()), (2, self.started.log())):
            for name in self.specs:
                self.seen.lines[name, stream] = []
            for line in text.splitlines():
                if match := PASSED_ON.fullmatch(line):
                    self.seen.lines[match[1], stream].append(match[2] + match[3])
                elif line[:1] in self.specs and not LINE.match(line):
                    self.seen.lines[line[0], stream].append("|" + line)
        return self.seen

    def is_at_rest(self) -> bool:
        """Whether `run` sleeps, and nobody is busy; where it is asked all the time whether all is well it is not."""
        if self.started.process.poll() is not None:
            return True
        if any(puppet.is_busy for puppet in self.puppets.values()) or self._unknown:
            return False
        if any(spec.daemon for spec in self.specs.values()) and not self._keepers_rest():
            return False
        if any(spec.check == "test" for spec in self.specs.values()):
            return True
        before = status(self.started.pid).get("voluntary_ctxt_switches")
        sleeps = "epoll" in place_of_sleep(self.started.pid)
        return sleeps and status(self.started.pid).get("voluntary_ctxt_switches") == before

    def _keepers_rest(self) -> bool:
        """Whether all children of `run` sleep, and have no others than those that have said who they are."""
        pids = children(self.started.pid)
        known = {puppet.pid for puppet in self.puppets.values()}
        return all(state(pid) == "S" for pid in pids) and all(known.issuperset(children(pid)) for pid in pids)

    def _hear(self) -> bool:
        """Take note of what processes say; say whether anybody did."""
        ready = self._selector.select(0)
        for key, _ in ready:
            if key.fileobj is self._listener:
                connection, _ = self._listener.accept()
                self._selector.register(connection, selectors.EVENT_READ)
                self._unknown.add(connection)
            else:
                assert isinstance(key.fileobj, socket.socket)
                self._take(key.fileobj, key.data)
        return bool(ready)

    def _take(self, connection: socket.socket, member: Member | None) -> None:
        try:
            words = connection.recv(4096).decode().split()
        except ConnectionResetError:
            words = []
        if not words:
            self._selector.unregister(connection)
            self._unknown.discard(connection)
            connection.close()
            if member:
                del self.puppets[member]
                self.died_at[member] = time.monotonic_ns()
        elif words[0] == "up":
            self._is_up(connection, *words[1:])
        elif words[0] == "got":
            assert member
            self.seen.got[member].append(int(words[1]))
            self.got_at.setdefault((member, int(words[1])), int(words[2]))
        else:
            assert member
            self.puppets[member].is_busy, self.last[member] = False, int(words[1])

    def _is_up(self, connection: socket.socket, name: str, kind: str, since: str) -> None:
        lives = [member.life for member in self.seen.got if member.name == name and member.kind == "main"]
        life = len(lives) + (kind == "main")
        others = sum((m.name, m.life) == (name, life) and m.kind != "main" for m in self.seen.got)
        member = Member(name, life, kind, 0 if kind == "main" else others + 1)
        self._unknown.discard(connection)
        self._selector.modify(connection, selectors.EVENT_READ, member)
        self.puppets[member] = Puppet(connection)
        self.seen.got[member] = []
        self.begun[member] = self.last[member] = int(since)

    def _read_log(self) -> None:
        self.seen.log, self.seen.of = [], {name: [] for name in self.specs}
        self.orphans = Counter()
        self.history = []
        for line in self.started.log().rpartition("\n")[0].splitlines():
            match = LINE.fullmatch(line)
            if match and not NOISE.match(match[1]):
                self._read_line(match[1])

    def _read_line(self, text: str) -> None:
        about = ABOUT.fullmatch(text)
        if orphan := ORPHAN.fullmatch(text):
            self.orphans[int(orphan[1]) if orphan[1] else 128 + int(orphan[2])] += 1
        elif sent := re.fullmatch(r"(sending \w+ \(\d+\)) to (\w+) \(pid \d+\)", text):
            self._say(sent[2], sent[1])
        elif about and about[1] in self.specs:
            words = re.sub(r"^ready, .* after its start$", "ready", about[2])
            if not NOISE.match(words):
                self._say(about[1], "started" if words.startswith("started ") else words)
        else:
            text = re.sub(r" from pid \d+(, uid \d+)?| \(pid \d+\)", "", text)
            self.seen.log.append(text)
            self.history.append(("", text))

    def _say(self, name: str, what: str) -> None:
        self.seen.of[name].append(what)
        self.history.append((name, what))

    def end(self) -> None:
        """Kill whoever is left."""
        for puppet in self.puppets.values():
            puppet.connection.close()  # then it exits
        for connection in (*self._unknown, self._listener):
            connection.close()
        self._selector.close()
        if self.started.process.poll() is None:
            self.started.process.kill()
        self.started.process.wait()
