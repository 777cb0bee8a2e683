"""The bundle of LINK=staticx: its launcher becomes the program, in any surroundings, and leaves nothing behind.

Each surrounding is a mount namespace with a root of its own, in which only what a test names can be written to.
"""

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from harness import DEADLINE, Starter

ROOT = Path(__file__).resolve().parents[2]
MARK = b"staticx_archive"
NOBODY = 65534
PLACES = ("/tmp", "/dev/shm", "/run", "/var/tmp")
MEGABYTE = 1024 * 1024
NAMESPACE = ("unshare", "--mount", "--pid", "--fork", "--kill-child=KILL")

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
            [*NAMESPACE, "/bin/sh", "-c", script, "sh", *world, *command],
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
