"""spawn() of the C extension: the program, what it is given, and what is told when it cannot be executed."""

import errno
import os
import signal
import sys
from pathlib import Path

import pytest
from extension import Extension, spawn_code

from run.signals import signal_set

MESS = """
signal.signal(signal.SIGTERM, lambda *_: None)
_kernel.set_ignored(signal.SIGHUP, True)
_kernel.set_ignored(signal.SIGUSR2, False)
_kernel.set_ignored(64, True)
_kernel.set_mask(1 << signal.SIGINT - 1 | 1 << 39)
"""
"""Code that changes dispositions and the mask after the start."""


def waited(call: str) -> str:
    """Code that waits for what this call of spawn() starts."""
    return f"pid = {call}\nassert os.waitpid(pid, 0)[1] == 0\n"


def status(*options: str) -> str:
    """Code that shows the status of a process that is started."""
    return waited(spawn_code("/bin/cat", ["cat", "/proc/self/status"], [], *options))


def sets(status: str) -> dict[str, int]:
    """The signal sets in the text of a /proc/PID/status."""
    lines = [line.split() for line in status.splitlines()]
    names = ("SigBlk:", "SigIgn:", "SigCgt:", "ShdPnd:")
    return {words[0].strip(":"): int(words[1], 16) for words in lines if words[0] in names}


def test_arguments_and_environment_arrive_to_the_byte(extension: Extension) -> None:
    script = 'import sys; print([open(f"/proc/self/{name}", "rb").read() for name in ("cmdline", "environ")])'
    words = [b"any name", b"-S", b"-c", script.encode(), b"", b"\xff\xfe", b"a b\nc", b"last"]
    variables = [b"B=1", b"A=\xff", b"B=2", b"no equals sign", b"LC_ALL=C.UTF-8"]
    found = extension.value(waited(spawn_code(sys.executable, words, variables)))
    assert found == [b"".join(word + b"\0" for word in words), b"".join(entry + b"\0" for entry in variables)]


def test_an_empty_environment_is_possible(extension: Extension) -> None:
    assert extension.output(waited(spawn_code("/usr/bin/env", ["env"], []))) == ""


def test_mask_and_dispositions_are_as_they_were_asked_for(extension: Extension) -> None:
    def prepare() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, [signal.SIGUSR1, signal.SIGSEGV, 64])
        for signum in (signal.SIGUSR2, signal.SIGCHLD, signal.SIGRTMIN):
            signal.signal(signum, signal.SIG_IGN)

    # CHLD must not be ignored while it is waited for.
    mess = MESS + "_kernel.set_ignored(signal.SIGCHLD, False)\n"
    found = sets(extension.output(mess + status(), preexec_fn=prepare))
    assert found["SigBlk"] == signal_set(signal.SIGUSR1, signal.SIGSEGV, 64)
    assert found["SigIgn"] == signal_set(signal.SIGUSR2, signal.SIGCHLD, signal.SIGRTMIN)
    assert found["SigCgt"] == 0


@pytest.mark.parametrize("option", ["group=True", "session=True"])
def test_it_leads_a_group_or_a_session_of_its_own(extension: Extension, option: str) -> None:
    script = "import os; print((os.getpid() == os.getpgid(0), os.getpid() == os.getsid(0)))"
    code = waited(spawn_code(sys.executable, ["python3", "-S", "-c", script], [], option))
    assert extension.value(code) == (True, option == "session=True")


def test_by_default_it_stays_in_the_group(extension: Extension) -> None:
    script = "import os; print(os.getpgid(0) == os.getpgid(os.getppid()))"
    assert extension.value(waited(spawn_code(sys.executable, ["python3", "-S", "-c", script], []))) is True


def test_files_directory_and_umask_are_as_they_were_asked_for(extension: Extension, tmp_path: Path) -> None:
    code = f"""
import fcntl
null = fcntl.fcntl(os.open("/dev/null", os.O_RDONLY), fcntl.F_DUPFD_CLOEXEC, 10)
file = fcntl.fcntl(os.open({str(tmp_path / "out")!r}, os.O_RDWR | os.O_CREAT), fcntl.F_DUPFD_CLOEXEC, 10)
""" + waited(
        spawn_code(
            "/bin/sh",
            ["sh", "-c", "pwd; umask; readlink /proc/self/fd/0; ls /proc/$$/fd; echo error >&2"],
            [b"PATH=/bin:/usr/bin"],
            f"files=(null, file, file), directory={os.fsencode(tmp_path)!r}, umask=0o027",
        )
    )
    assert extension.output(code) == ""
    assert (tmp_path / "out").read_text().split() == [str(tmp_path), "0027", "/dev/null", "0", "1", "2", "error"]


LOW = """
null = os.open("/dev/null", os.O_RDONLY)
spares = [os.dup(null) for _ in range(3)]
low = (max(spares), null, *spares)
more = [os.dup(null) for _ in range(50)]
os.set_inheritable(more[0], True)
reads, writes = os.pipe()
def links():
    return {(os.readlink(f"/proc/self/fd/{fd}"), os.get_inheritable(fd)) for fd in spares}
"""
"""Code that has many descriptors, of which a child is to have few."""


@pytest.mark.parametrize("files", ["(null, writes, writes)", "(null, writes, 2)", "(-1, writes, -1)"])
def test_no_descriptor_but_its_own_is_copied_for_a_child_with_low_ones(extension: Extension, files: str) -> None:
    every = " ".join(map(str, range(70)))
    script = f"for fd in {every}; do [ ! -e /proc/$$/fd/$fd ] || echo $fd; done; readlink /proc/$$/fd/1"
    call = spawn_code("/bin/sh", ["sh", "-c", script], [b"PATH=/bin:/usr/bin"], f"files={files}, low=low")
    code = f"{LOW}{waited(call)}{waited(call)}"
    code += 'print([os.read(reads, 999).split(), os.readlink(f"/proc/self/fd/{writes}").encode(), links()])'
    said, pipe, left = extension.value(code)
    numbers = [b"%d" % place for place, fd in enumerate(files.strip("()").split(", ")) if fd != "-1"]
    assert said == [*numbers, pipe] * 2
    assert left == {("/dev/null", False)}


def test_a_child_with_low_descriptors_that_fails_leaves_them_as_they_were(extension: Extension) -> None:
    call = spawn_code("/bin/true", ["true"], [], "files=(null, writes, writes), low=low, directory=b'/nowhere'")
    outcome, left = extension.value(f"{LOW}print([{call}, links()])")
    assert outcome == ("chdir", errno.ENOENT, (0,))
    assert left == {("/dev/null", False)}


def test_user_group_and_groups_are_changed(extension: Extension) -> None:
    code = status("user=(65534, 65533, [65533, 7, 8])")
    found = dict(line.split(":", 1) for line in extension.output(code).splitlines())
    assert found["Uid"].split() == ["65534"] * 4
    assert found["Gid"].split() == ["65533"] * 4
    assert found["Groups"].split() == ["7", "8", "65533"]


@pytest.mark.parametrize("user", ["None", "(65534, 65534, [])"])
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP, 64])
def test_the_parents_death_sends_the_signal(extension: Extension, signum: int, user: str) -> None:
    script = "import ctypes; n = ctypes.c_int(); ctypes.CDLL(None).prctl(2, ctypes.byref(n)); print(n.value)"
    call = spawn_code(sys.executable, ["python3", "-S", "-c", script], [], f"user={user}")
    assert extension.value(waited(call.replace("death_signal=15", f"death_signal={int(signum)}"))) == signum


def test_a_pending_signal_stays_with_the_parent(extension: Extension) -> None:
    code = "_kernel.set_mask(1 << 9); os.kill(os.getpid(), signal.SIGUSR1)\n" + status()
    assert sets(extension.output(code))["ShdPnd"] == 0


def test_a_script_without_an_interpreter_line_is_given_to_the_shell(extension: Extension, tmp_path: Path) -> None:
    (tmp_path / "text").write_text('echo "$0" "$@"\n')
    (tmp_path / "text").chmod(0o755)
    code = waited(spawn_code(str(tmp_path / "text"), ["name", "a b", "c"], []))
    assert extension.output(code) == f"{tmp_path}/text a b c\n"


def files(folder: Path) -> dict[str, bytes]:
    """Paths that execve(2) refuses, by the name of the errno."""
    for name, mode, text in (
        ("plain", 0o644, "#!/bin/sh\n"),
        ("text", 0o755, "true\n"),
        ("script", 0o755, "#!/nowhere\n"),
    ):
        (folder / name).write_text(text)
        (folder / name).chmod(mode)
    (folder / "loop").symlink_to("loop")
    return {
        "ENOENT": os.fsencode(folder / "script"),
        "EACCES": os.fsencode(folder / "plain"),
        "ENOTDIR": os.fsencode(folder / "text" / "below"),
        "ELOOP": os.fsencode(folder / "loop"),
        "ENAMETOOLONG": b"/" + b"x" * 5000,
    }


@pytest.mark.parametrize("name", ["ENOENT", "EACCES", "ENOTDIR", "ELOOP", "ENAMETOOLONG"])
def test_what_cannot_be_executed_is_told_with_the_errno(extension: Extension, tmp_path: Path, name: str) -> None:
    number = getattr(errno, name)
    call = spawn_code(os.fsdecode(files(tmp_path)[name]), ["x"], [])
    nobody = "try:\n    os.waitpid(-1, 0)\nexcept ChildProcessError:\n    pass\nelse:\n    print('a child is left')"
    code = f"print({call})\n{nobody}"
    assert extension.value(code) == ("execve", number, (number,))


def test_the_next_path_is_tried_after_the_errors_that_were_named(extension: Extension, tmp_path: Path) -> None:
    paths = files(tmp_path)

    def told(*names: str, more: bytes = b"") -> str:
        tried = [paths[name] for name in names] + [more] * bool(more)
        return spawn_code("x", ["echo", "found"], []).replace("[b'x']", repr(tried))

    assert extension.output(waited(told("ENOENT", "EACCES", more=b"/bin/echo"))) == "found\n"
    assert extension.value(f"print({told('EACCES', 'ELOOP', more=b'/bin/echo')})") == (
        "execve",
        errno.ELOOP,
        (errno.EACCES, errno.ELOOP, 0),
    )
    assert extension.value(f"print({told('EACCES', 'ENOENT')})") == (
        "execve",
        errno.ENOENT,
        (errno.EACCES, errno.ENOENT),
    )


@pytest.mark.parametrize(
    ("options", "step", "number"),
    [
        ("directory=b'/nowhere'", "chdir", errno.ENOENT),
        ("files=(99, 99, 99)", "dup2", errno.EBADF),
        ("user=(65534, 65534, list(range(70000)))", "setgroups", errno.EINVAL),
    ],
)
def test_a_step_that_fails_is_told(extension: Extension, options: str, step: str, number: int) -> None:
    assert extension.value(f"print({spawn_code('/bin/true', ['true'], [], options)})") == (step, number, (0,))


def test_a_death_signal_that_is_none_is_told(extension: Extension) -> None:
    call = spawn_code("/bin/true", ["true"], []).replace("death_signal=15", "death_signal=65")
    assert extension.value(f"print({call})") == ("prctl", errno.EINVAL, (0,))


def test_a_fork_that_is_refused_is_told(extension: Extension) -> None:
    code = f"""
import resource
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
os.setresuid(65534, 65534, 65534)
print({spawn_code("/bin/true", ["true"], [])})
"""
    assert extension.value(code) == ("fork", errno.EAGAIN, (0,))


def test_the_signals_of_the_parent_are_as_they_were(extension: Extension) -> None:
    code = f"""
_kernel.set_mask(1 << 39)
{waited(spawn_code("/bin/true", ["true"], []))}
{spawn_code("/nowhere", ["nowhere"], [])}
print(_kernel.set_mask(0))
"""
    assert extension.value(code) == 1 << 39


WRONG = [
    "",
    "[b'/bin/true'], [b'true'], []",
    "'/bin/true', [b'true'], [], b'sh', b'', 15, 0, 0",
    "[b'/bin/true'], (b'true',), [], b'sh', b'', 15, 0, 0",
    "[b'/bin/true'], ['true'], [], b'sh', b'', 15, 0, 0",
    "[b'/bin/true'], [b'true'], [b'A=1', None], b'sh', b'', 15, 0, 0",
    "[b'/bin/true'], [b'true'], [], b'sh', b'', 15, 0, 0, user=(1, 2)",
    "[b'/bin/true'], [b'true'], [], b'sh', b'', 15, 0, 0, user=(1, 2, [None])",
    "[b'/bin/true'], [b'true'], [], b'sh', b'', 15, 0, 0, files=(1, None)",
    "[b'/bin/true'], [b'true'], [], b'sh', b'', 15, 0, 0, files=(1, 1), low=(9, 9)",
]


@pytest.mark.parametrize("arguments", WRONG)
def test_wrong_arguments_are_refused(extension: Extension, arguments: str) -> None:
    assert extension.error(f"_kernel.spawn({arguments})") == ("TypeError", None)


@pytest.mark.parametrize(
    "arguments",
    [
        "[b'/bin/t\\0rue'], [b'true'], [], b'sh', b'', 15, 0, 0",
        "[b'/bin/true'], [b't\\0rue'], [], b'sh', b'', 15, 0, 0",
        "[b'/bin/true'], [b'true'], [b'A=\\0'], b'sh', b'', 15, 0, 0",
        "[b'/bin/true'], [b'true'], [], b'sh', b'', 15, 0, 0, files=(9, 9, 9, 9)",
    ],
)
def test_wrong_values_are_refused(extension: Extension, arguments: str) -> None:
    assert extension.error(f"_kernel.spawn({arguments})") == ("ValueError", None)


def test_no_function_keeps_memory(extension: Extension) -> None:
    wrong = ", ".join(f"lambda: _kernel.spawn({arguments})" for arguments in WRONG)
    code = f"""
import tracemalloc
for number in range(4, 10):
    os.dup2(2, number, inheritable=False)
def attempt(function, *arguments):
    try:
        function(*arguments)
    except (OSError, TypeError, ValueError, OverflowError):
        pass
def all_of_them():
    for call in ({wrong}):
        attempt(call)
    {spawn_code("/nowhere", ["nowhere"] * 9, [b"A=1"] * 9, "user=(0, 0, [1, 2, 3])")}
    os.waitpid({spawn_code("/bin/true", ["true"], [])}, 0)
    os.waitpid({spawn_code("/bin/true", ["true"], [], "files=(4, 9, 9), low=(7, 4, 5, 6, 7)")}, 0)
    for mask in (1 << 63, -1, 'x'):
        attempt(_kernel.set_mask, mask)
    for arguments in ((1 << 33, 0), (1, -1), (1, 'x')):
        attempt(_kernel.wait_signal, *arguments)
    for arguments in ((10, True), (10, False), (99, True)):
        attempt(_kernel.set_ignored, *arguments)
    for arguments in ((900, 901), (2, 1)):
        attempt(_kernel.close_fds, *arguments)
    for arguments in ((900, b'x'), (2, 'x'), (2, b'')):
        attempt(_kernel.write_briefly, *arguments)
    _kernel.set_mask((1 << 64) - 1)
    _kernel.queue_signal(os.getpid(), 40, 1, 2, 3)
    _kernel.wait_signal(1 << 39, 0)
    _kernel.started_with(), _kernel.environment(), _kernel.monotonic(), _kernel.cpu_time()
    _kernel.set_child_subreaper()
_kernel.set_mask((1 << 64) - 1)
for _ in range(10):
    all_of_them()
tracemalloc.start()
all_of_them()
before = tracemalloc.get_traced_memory()[0]
for _ in range(100):
    all_of_them()
print(tracemalloc.get_traced_memory()[0] - before)
"""
    assert extension.value(code) < 100 * 16, "less than one small object for each round"
