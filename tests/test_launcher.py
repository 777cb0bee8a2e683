"""The bundle of LINK=staticx: its launcher becomes the program, in any surroundings, and leaves nothing behind.

Each surrounding is a mount namespace with a root of its own, in which only what a test names can be written to.
"""

import os
import re
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from harness import DEADLINE, Starter, children, compile_c, status, wait_until

ROOT = Path(__file__).resolve().parent.parent
MARK = b".staticx.archive"
NOBODY = 65534
PLACES = ("/tmp", "/dev/shm", "/run", "/var/tmp")
MEGABYTE = 1024 * 1024
NAMESPACE = ("unshare", "--mount", "--pid", "--fork", "--kill-child=KILL")

SHOW = r"""
#include <stdio.h>
#include <string.h>
#include <unistd.h>
int main(int argc, char **argv, char **environment)
{
    for (char **word = argv + 1; argc > 1 && *word; word++) {
        if (strcmp(*word, "--") == 0) {
            *word = NULL;
            execve(word[1], word + 1, argv + 1);
            return 8;
        }
    }
    for (; *environment; environment++)
        puts(*environment);
    return 7;
}
"""
"""A command that needs no library: it prints its environment, and exits with 7; or is env(1): VARIABLE... -- CMD..."""

ENTER = r"""
set -e
root=$1 places=$2 proc=$3 user=$4 binary=$5 show=$6
shift 6
mount --make-rprivate /
mount -t tmpfs none "$root"
mkdir -p "$root/bin" "$root/proc" "$root/tmp" "$root/dev/shm" "$root/run" "$root/var/tmp" "$root/mnt"
cp "$binary" "$root/bin/run"
cp "$show" "$root/bin/show"
for place in $places; do
    mount -t tmpfs -o "mode=1777,${place#*=}" none "$root${place%%=*}"
done
[ "$proc" = no ] || mount -t proc none "$root/proc"
mount -o remount,ro "$root"
chroot --userspec="$user:$user" "$root" "$@" && code=0 || code=$?
find "$root/tmp" "$root/dev/shm" "$root/run" "$root/var/tmp" "$root/mnt" -mindepth 2 -o -name '.run*' >&2
exit "$code"
"""
"""Enter such a root, run a command there, and print what is left to stderr."""


@pytest.fixture(scope="module")
def bundle(binary: str) -> Path:
    """The binary under test if it is a bundle, else the one that was built last."""
    for path in (Path(binary), ROOT / ".work" / "staticx" / "bundle"):
        if path.exists() and MARK in path.read_bytes():
            return path
    pytest.skip("there is no bundle to test: make build LINK=staticx")


@pytest.fixture
def launch(bundle: Path, tmp_path: Path) -> Iterator[Starter]:
    """Start the bundle."""
    folder = tmp_path / "started"
    folder.mkdir()
    starter = Starter(str(bundle), folder)
    yield starter
    starter.kill_all()


@pytest.fixture(scope="module")
def show(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command that prints its environment."""
    return compile_c(SHOW, tmp_path_factory.mktemp("show") / "show", "-static")


class World:
    """Roots to enter."""

    def __init__(self, bundle: Path, show: Path, folder: Path) -> None:
        """Take what is in each of them, and a folder to mount them at."""
        self._files = [str(bundle), str(show)]
        self.folder = folder

    def run(
        self,
        places: Mapping[str, str],
        *,
        proc: bool = True,
        user: int = 0,
        before: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> tuple[int, str, str]:
        """Exit code, stdout and stderr of `run -qq show`, where only these places, mounted like that, are writable.

        before is a shell command to be run when all is mounted.
        """
        script = ENTER.replace("chroot ", f"{before}\nchroot ", 1)
        mounts = " ".join(f"{place}={options}" for place, options in places.items())
        world = [str(self.folder), mounts, "yes" if proc else "no", str(user), *self._files]
        variables = [f"{name}={value}" for name, value in (environment or {}).items()]
        command = ["/bin/show", *variables, "--", "/bin/run", "-qq", "/bin/show"]
        done = subprocess.run(
            [
                "unshare",
                "--mount",
                "--pid",
                "--fork",
                "--kill-child=KILL",
                "/bin/sh",
                "-c",
                script,
                "sh",
                *world,
                *command,
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=DEADLINE,
        )
        return done.returncode, done.stdout, done.stderr


@pytest.fixture
def world(bundle: Path, show: Path, tmp_path: Path) -> World:
    """Roots to enter, with the bundle and the command in them."""
    folder = tmp_path / "root"
    folder.mkdir()
    return World(bundle, show, folder)


def assert_refused(code: int, err: str) -> None:
    """It said in one line what it looked for and what to do, and left nothing."""
    assert code == 125
    assert err.count("\n") == 1
    assert err.startswith("run: [error] cannot start: ")
    assert all(place in err for place in ("$TMPDIR", *PLACES))
    assert "--tmpfs" in err
    assert "static build" in err


# Where it can be written to


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("options", ["", "noexec", "noexec,nodev,nosuid"])
def test_any_one_writable_directory_will_do_and_it_may_be_noexec(world: World, place: str, options: str) -> None:
    assert world.run({place: options})[::2] == (7, "")


def test_TMPDIR_is_taken_first(world: World) -> None:
    code, out, err = world.run({"/mnt": ""}, environment={"TMPDIR": "/mnt", "A": "1"})
    assert (code, err) == (7, "")
    assert out == "TMPDIR=/mnt\nA=1\n"


@pytest.mark.parametrize(
    "folder", ["", "/nowhere", "tmp", "/bin/show", "/" + "x" * 2000, "/" + "y/" * 2000, "/proc", "/bin"]
)
def test_a_TMPDIR_that_is_of_no_use_is_passed_over(world: World, folder: str) -> None:
    assert world.run({"/run": ""}, environment={"TMPDIR": folder})[::2] == (7, "")


@pytest.mark.parametrize("folder", ["a:b", "a;b", "$ORIGIN", "a b", "%s%n", "ä"])
def test_a_TMPDIR_with_characters_that_are_special_to_the_dynamic_loader(world: World, folder: str) -> None:
    made = f"mkdir '{world.folder}/mnt/{folder}'"
    for proc in (True, False):
        places = {"/mnt": "", "/run": ""}
        assert world.run(places, proc=proc, before=made, environment={"TMPDIR": f"/mnt/{folder}"})[::2] == (7, "")


@pytest.mark.parametrize("proc", [True, False], ids=["proc", "no proc"])
def test_where_nothing_can_be_written_it_says_what_to_do(world: World, proc: bool) -> None:
    code, out, err = world.run({}, proc=proc)
    assert_refused(code, err)
    assert not out


def test_a_full_disk_is_passed_over(world: World) -> None:
    fill = "! dd if=/dev/zero of=$root/tmp/filler status=none 2>$root/run/message; rm $root/run/message"
    assert world.run({"/tmp": "size=64k", "/dev/shm": "nr_inodes=1", "/run": ""}, before=fill)[::2] == (7, "")


def test_a_disk_that_gets_full_on_the_way_is_passed_over(world: World) -> None:
    assert world.run({"/tmp": "nr_inodes=5", "/run": ""})[::2] == (7, "")
    assert world.run({"/tmp": "size=4m", "/run": ""}, proc=False)[::2] == (7, "")


def test_where_every_disk_is_full_it_says_what_to_do(world: World) -> None:
    code, _, err = world.run(dict.fromkeys(PLACES, "nr_inodes=5"))
    assert_refused(code, err)


def test_without_proc_it_makes_copies_and_leaves_none(world: World) -> None:
    assert world.run({"/tmp": "noexec", "/run": ""}, proc=False)[::2] == (7, "")


def test_without_proc_and_all_noexec_it_says_what_to_do(world: World) -> None:
    code, _, err = world.run(dict.fromkeys(PLACES, "noexec"), proc=False)
    assert_refused(code, err)


@pytest.mark.parametrize("proc", [True, False], ids=["proc", "no proc"])
def test_any_user_without_capabilities(world: World, proc: bool) -> None:
    assert world.run({"/tmp": ""}, proc=proc, user=12345)[::2] == (7, "")


# What is meant for the command


def test_what_is_meant_for_the_commands_dynamic_loader_reaches_only_the_command(world: World) -> None:
    hostile = {
        "LD_PRELOAD": "/bin/show:/lib/libfor-another-libc.so",
        "LD_LIBRARY_PATH": "/mnt",
        "LD_AUDIT": "/bin/show",
        "LD_DEBUG": "all",
        "LD_BIND_NOW": "1",
        "GLIBC_TUNABLES": "glibc.malloc.check=3:glibc.rtld.nns=1",
        "MALLOC_PERTURB_": "165",
        "_RUN_HANDOVER": "0",
        "_PYI_ARCHIVE_FILE": "/bin/show",
        "PYTHONHOME": "/nowhere",
    }
    planted = 'for name in libc.so.6 libm.so.6 libpython3.so ld-linux-x86-64.so.2; do echo x >"$root/mnt/$name"; done'
    code, out, err = world.run({"/tmp": ""}, before=f"mount -o remount,rw $root; {planted}", environment=hostile)
    assert (code, err) == (7, "")
    assert out.splitlines() == [f"{name}={value}" for name, value in hostile.items()]


def test_a_list_of_libraries_to_preload_is_not_obeyed(world: World) -> None:
    """/etc/ld.so.preload of ld.so(8): glibc's loader would complain of what it cannot load."""
    planted = 'mount -o remount,rw "$root"; mkdir "$root/etc"; echo /lib/other.so >"$root/etc/ld.so.preload"'
    assert world.run({"/tmp": ""}, before=planted)[::2] == (7, "")


def test_the_environment_is_the_same_to_the_byte(launch: Starter, show: Path) -> None:
    given = {b"B": b"\xff\xfe", b"A": b"x" * 100_000, b"EMPTY": b"", b"LD_X=": b"1", b"Z" * 5000: b"=="}
    done = subprocess.run(
        ["/usr/bin/env", "-i", *(b"%b=%b" % pair for pair in given.items()), launch.binary, "-qq", str(show)],
        capture_output=True,
        check=False,
    )
    assert done.stdout.splitlines() == [b"%b=%b" % pair for pair in given.items()]
    empty = subprocess.run(["/usr/bin/env", "-i", launch.binary, "-qq", str(show)], capture_output=True, check=False)
    assert (empty.returncode, empty.stdout, empty.stderr) == (7, b"", b"")


def test_limits_of_files_and_the_umask_are_the_commands(launch: Starter, tmp_path: Path) -> None:
    def setup() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        resource.setrlimit(resource.RLIMIT_NOFILE, (7, 1000))
        os.umask(0o777)

    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    script = "ulimit -f; umask; ulimit -n; ulimit -Hn"
    code, out, _ = launch.result("sh", "-c", script, preexec_fn=setup, env=environment)
    assert (code, out.split()) == (0, ["8", "0777", "7", "1000"])


def test_where_too_few_files_may_be_open_it_says_so(launch: Starter) -> None:
    limit = (8, 8)
    code, _, err = launch.result("true", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limit))
    assert (code, err) == (125, "run: [error] cannot start: cannot make a memfd: Too many open files\n")


# One process, and nothing left


def test_the_process_that_was_started_is_the_only_one(launch: Starter) -> None:
    started = launch("-q", "sleep", "1000")
    wait_until(lambda: children(started.pid), "the command was started")
    assert len(children(started.pid)) == 1
    assert status(started.pid)["Name"] == Path(launch.binary).name[:15]
    assert Path(f"/proc/{started.pid}/cmdline").read_bytes() == os.fsencode(f"{launch.binary}\0-q\0sleep\0001000\0")


def test_nothing_is_left_behind_once_the_command_runs(launch: Starter, tmp_path: Path) -> None:
    folder = tmp_path / "tmp"
    folder.mkdir()
    started = launch("sleep", "1000", env={**os.environ, "TMPDIR": str(folder)})
    started.wait_log("started sleep")
    assert os.listdir(folder) == []
    # stderr is a regular file, which the log does not open again
    wait_until(lambda: os.listdir(f"/proc/{started.pid}/fd") == ["2"], "run holds stderr, and nothing else")


def test_killed_at_any_moment_it_leaves_at_most_its_directory_of_links(launch: Starter, tmp_path: Path) -> None:
    folder = tmp_path / "tmp"
    folder.mkdir()
    names, left = set(), 0
    for step in range(120):
        started = launch("-qq", "sleep", "1000", env={**os.environ, "TMPDIR": str(folder)})
        end = time.monotonic() + step * 0.0003
        while time.monotonic() < end:
            if step % 2 and os.listdir(folder):
                break
        os.kill(started.process.pid, signal.SIGKILL)
        started.wait()
        found = list(folder.iterdir())
        assert len(found) <= 1
        for directory in found:
            assert re.fullmatch(r"\.run-[0-9a-f]{16}", directory.name)
            assert directory.stat().st_mode & 0o777 == 0o700
            assert all(path.is_symlink() for path in directory.iterdir())
            names.add(directory.name)
            left += 1
            shutil.rmtree(directory)
    assert left, "it was never killed in time: the test has shown nothing"
    assert len(names) == left, "a name came twice: it could be foreseen"


def test_somebody_who_renames_the_directory_or_puts_links_in_its_place(launch: Starter, public: Path) -> None:
    """A directory for everybody, without the sticky bit, and another user who is quick."""
    folder = public / "open"
    evil = public / "evil"
    for path in (folder, evil):
        path.mkdir()
        path.chmod(0o777)
    attack = (
        f"import os; os.setgid({NOBODY}); os.setuid({NOBODY}); os.chdir({str(folder)!r})\n"
        "print(flush=True); n = 0\n"
        "while True:\n"
        "    for name in os.listdir():\n"
        "        if name.startswith('.run'):\n"
        "            try:\n"
        f"                n += 1; os.rename(name, f'moved-{{n}}'); os.symlink({str(evil)!r}, name)\n"
        "            except OSError: pass\n"
    )
    attacker = subprocess.Popen(["python3", "-S", "-c", attack], stdout=subprocess.PIPE)
    try:
        assert attacker.stdout is not None
        attacker.stdout.readline()
        for _ in range(25):
            assert launch.result("-qq", "sh", "-c", "exit 7", env={**os.environ, "TMPDIR": str(folder)})[::2] == (7, "")
    finally:
        attacker.kill()
        attacker.communicate()
    assert any(name.startswith("moved") for name in os.listdir(folder)), "the attack never came in time"
    assert os.listdir(evil) == []


def test_standard_descriptors_that_are_closed_stay_closed(launch: Starter) -> None:
    def setup() -> None:
        for fd in (0, 1, 2):
            os.close(fd)

    assert (
        launch.result(
            "sh", "-c", "test ! -e /proc/$$/fd/0 -a ! -e /proc/$$/fd/1 -a ! -e /proc/$$/fd/2", preexec_fn=setup
        )[0]
        == 0
    )


def test_a_signal_in_the_first_instant_is_not_lost(launch: Starter) -> None:
    """Pending when the launcher is executed, blocked until then: it reaches the command."""

    def setup() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        os.kill(os.getpid(), signal.SIGUSR1)

    trap = "import signal; print(signal.sigwait([signal.SIGUSR1]))"
    code, out, _ = launch.result("python3", "-S", "-c", trap, preexec_fn=setup)
    assert (code, out) == (0, "10\n")


# Sizes


def test_it_is_not_larger_than_14_MB(bundle: Path) -> None:
    assert bundle.stat().st_size <= 14 * MEGABYTE


def test_its_private_memory_is_at_most_13_MB(launch: Starter) -> None:
    started = launch("sleep", "1000")
    started.wait_log("started sleep")
    lines = Path(f"/proc/{started.pid}/smaps_rollup").read_text().splitlines()
    dirty = sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty"))
    assert dirty * 1024 <= 13 * MEGABYTE


def test_the_launcher_is_at_most_300_lines() -> None:
    assert len((ROOT / "build" / "staticx" / "launcher.c").read_text().splitlines()) <= 300
