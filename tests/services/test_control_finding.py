"""Contract, "Control": which `run` is asked: that of the mount namespace, PID 1 or not; and what if there is none."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from controlling import APART, DONE, OTHER, Answer, Box, Boxes, refused
from harness import AS_PID_1, DEADLINE, Started, Starter, wait_until
from serving import FOREVER, Server, wait_pid

NOBODY = refused("there is no `run` with services in this container")


def beside(pid: int, *namespaces: str) -> tuple[str, ...]:
    """The words that start a program in the mount namespace of a process, and in others of it."""
    return ("nsenter", "--target", str(pid), "--mount", *namespaces)


def names(answer: Answer) -> list[str]:
    """The services that an answer to `json` tells of."""
    code, out, log = answer
    assert (code, log) == (0, "")
    return [json.loads(line)["name"] for line in out.splitlines()]


# -- One that is there -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pid_1", [False, True], ids=["subreaper", "pid-1"])
def test_it_is_found_whatever_its_pid_is(box: Boxes, pid_1: bool) -> None:
    b = box({"web": OTHER}, pid_1=pid_1)
    wait_pid(b.started, "web")
    assert names(b.ask("json")) == ["web"]


@pytest.mark.parametrize("pid_1", [False, True], ids=["subreaper", "pid-1"])
def test_a_service_can_ask_its_own_run(box: Boxes, tmp_path: Path, binary: str, pid_1: bool) -> None:
    script = f"{binary} -c health web >{tmp_path}/answer; echo $? >>{tmp_path}/answer; {FOREVER}"
    box({"web": {"command": script}}, pid_1=pid_1)
    answer = tmp_path / "answer"
    wait_until(lambda: answer.exists() and answer.read_text().endswith("\n"), "it has asked")
    assert answer.read_text() == "0\n"


def test_two_with_mount_namespaces_of_their_own_do_not_see_each_other(box: Boxes) -> None:
    """Though they share the network, and one of them the pid namespace."""
    boxes = {"a": box({"a": OTHER}), "b": box({"b": OTHER}), "c": box({"c": OTHER}, pid_1=True)}
    for name, b in boxes.items():
        wait_pid(b.started, name)
    assert {name: names(b.ask("json")) for name, b in boxes.items()} == {"a": ["a"], "b": ["b"], "c": ["c"]}
    assert boxes["a"].ask("stop", "a") == DONE
    assert names(boxes["b"].ask("json")) == ["b"]


def test_it_is_found_where_it_was_given_other_namespaces_than_those(box: Boxes) -> None:
    """Of users' names, of what a host is called, of what processes share: they make no difference."""
    b = box({"web": OTHER}, prefix=("unshare", "--uts", "--ipc", "--cgroup"))
    wait_pid(b.started, "web")
    assert names(b.ask("json")) == ["web"]


def test_without_proc_PID_1_is_asked(serve: Server, start: Starter) -> None:
    """In a network namespace of its own, as of a container: its name would be that of another one without /proc."""
    gone = ("sh", "-ec", 'mount -t tmpfs none /proc; exec "$@"', "sh")
    started = serve(
        {"web": OTHER}, prefix=("unshare", "--net", "--pid", "--fork", "--mount", "--kill-child=KILL", *gone)
    )
    started.wait_log("started")
    b = Box(start, started, pid_1=True)
    within = beside(b.run, "--net", "--pid")
    assert names(start.result("-c", "json", prefix=within)) == ["web"]
    assert start.result("-c", "restart", "web", prefix=within) == DONE
    assert started.log().count("): started ") == 2
    assert "cannot listen" not in started.log()


# -- Several -----------------------------------------------------------------------------------------------------------


class Several:
    """Some `run` in one mount namespace."""

    def __init__(self, start: Starter, serve: Server) -> None:
        """Make the namespace."""
        self._start = start
        self._serve = serve
        self._holder = serve({"holder": OTHER}, prefix=APART)
        wait_pid(self._holder, "holder")
        self.holder = self._holder.pid

    def __call__(self, name: str, command: object) -> Started:
        """Start one with this service."""
        started = self._serve({name: {"command": command}}, prefix=beside(self.holder))
        wait_pid(started, name)
        return started

    def ask(self, *words: str) -> Answer:
        """What is answered to one who descends from none of them."""
        return self._start.result("-c", *words, prefix=beside(self.holder))


def asks(binary: str, answer: Path) -> str:
    """A service that asks, and then stays."""
    return f"until {binary} -c json >{answer}+ 2>&1; do sleep 0.01; done; mv {answer}+ {answer}; {FOREVER}"


def test_of_several_it_is_the_one_that_the_asker_descends_from(
    start: Starter, serve: Server, tmp_path: Path, binary: str
) -> None:
    several = Several(start, serve)
    for name in "ab":
        several(name, asks(binary, tmp_path / name))
    for name in "ab":
        wait_until((tmp_path / name).exists, f"{name} has asked")
        assert json.loads((tmp_path / name).read_text())["name"] == name


def test_of_several_nobody_is_asked_by_one_from_outside(start: Starter, serve: Server) -> None:
    several = Several(start, serve)
    assert names(several.ask("json")) == ["holder"]
    other = several("web", FOREVER)
    found = ", ".join(map(str, sorted([several.holder, other.pid])))
    for words in (["status"], ["stop", "web"]):
        told = f"several of them are here, with the pids {found}: one is accepted"
        assert several.ask(*words) == refused(told)
    other.process.terminate()
    assert other.wait() == 0
    assert names(several.ask("json")) == ["holder"]


def test_of_several_it_is_PID_1(box: Boxes, tmp_path: Path, binary: str) -> None:
    """Also for those who descend from another one, which a service of it is."""
    inner = tmp_path / "inner.toml"
    script = asks(binary, tmp_path / "answer")
    inner.write_text(f"[services.inner]\ncommand = ['/bin/sh', '-c', '{script}']\n")
    b = box({"outer": {"command": [binary, "-f", str(inner)]}}, pid_1=True)
    answer = tmp_path / "answer"
    wait_until(answer.exists, "the inner one's service has asked")
    assert json.loads(answer.read_text())["name"] == "outer"
    assert names(b.ask("json")) == ["outer"]


# -- None --------------------------------------------------------------------------------------------------------------


def test_there_is_none(start: Starter) -> None:
    for words in (["status"], ["health"], ["stop", "web"]):
        assert start.result("-c", *words, prefix=APART) == NOBODY
        assert start.result("-c", *words, prefix=AS_PID_1) == NOBODY, "it is PID 1 itself"


def test_a_run_with_one_command_is_none(start: Starter) -> None:
    started = start("sleep", "1000", prefix=APART)
    started.wait_log("started sleep")
    assert start.result("-c", "status", prefix=beside(started.pid)) == NOBODY
    pid_1 = start("sleep", "1000", pid_1=True)
    pid_1.wait_log("started sleep")
    assert start.result("-c", "status", prefix=beside(pid_1.pid, "--pid")) == NOBODY


def test_a_run_with_one_command_opens_no_socket(binary: str, serve: Server, tmp_path: Path) -> None:
    """Nor what waits for sockets; one with services does, which shows that it would be seen."""
    calls = {}
    file = serve.file({"web": {"command": ["/bin/true"]}})
    for name, words in {"one": ["/bin/true"], "services": ["-f", str(file)]}.items():
        trace = tmp_path / name
        strace = ["strace", "--quiet=all", "-o", str(trace), "-e", "trace=%network,epoll_create1,epoll_ctl,signalfd4"]
        assert subprocess.run([*strace, binary, "-qq", *words], check=False, timeout=DEADLINE).returncode == 0
        calls[name] = {call.partition("(")[0] for call in trace.read_text().splitlines() if not call.startswith("---")}
    assert {"socket", "bind", "listen", "epoll_create1"} <= calls["services"]
    assert not calls["one"]


def test_one_that_has_ended_is_none(box: Boxes, start: Starter) -> None:
    """Its name is gone with it: there is nothing to be removed, and nothing that could be left."""
    b = box({"web": OTHER, "stays": OTHER})
    stays = wait_pid(b.started, "stays")
    namespace = Path(f"/proc/{stays}/ns/mnt")
    with namespace.open() as kept:
        assert b.stop() == 0
        beside_it = ("nsenter", f"--mount=/proc/{os.getpid()}/fd/{kept.fileno()}")
        assert start.result("-c", "status", prefix=beside_it) == NOBODY


def test_one_in_another_network_namespace_is_none(b: Box) -> None:
    """Abstract sockets belong to it: network_namespaces(7)."""
    assert b.ask("status", within=("unshare", "--net")) == NOBODY


def test_one_in_another_mount_namespace_is_none(b: Box, start: Starter) -> None:
    assert b.ask("status", within=("unshare", "--mount")) == NOBODY
