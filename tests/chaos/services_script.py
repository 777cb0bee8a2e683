"""Scripts of the chaos tests of services: random services, and random things that happen to them."""

import signal
from typing import Any

from hypothesis import strategies as st
from services_world import AGAIN, COMMON, DEFAULT, DOWN, HANG, NEVER, UP, Spec, Words

NAMES = "abcde"
WHO = st.integers(0, 20)
"""Whom it concerns is drawn as a number, and becomes one of those for whom it can happen when it comes to that."""
CODE = st.sampled_from([0, 1, 3, 143, 255])
DEADLY = st.sampled_from([int(signal.SIGKILL), int(signal.SIGSEGV), int(signal.SIGABRT)])
STOP_SIGNALS = st.sampled_from([int(signal.SIGTERM), int(signal.SIGQUIT), int(signal.SIGINT)])
STREAM = st.sampled_from([1, 2])

SIZES = st.sampled_from([1, 4096, 16383, 16384, 16385, 40000, 70000, 300000])
TEXT = st.one_of(
    st.tuples(st.just("words"), st.sampled_from(["1\n", "2", "3\n34\n", "4\n45", "5\n\n6\n", "7\n78\n789"])),
    st.tuples(st.just("many"), SIZES, st.sampled_from(["", "\n"])),
)
ORDER = st.sampled_from([UP, DOWN, AGAIN, AGAIN, "signal"])

HAPPEN = st.one_of(
    st.tuples(st.just("exit"), WHO, CODE),
    st.tuples(st.just("order"), ORDER, st.lists(WHO, min_size=1, max_size=3)),
    st.tuples(st.just("write"), WHO, STREAM, TEXT),
    st.tuples(st.just("ready"), WHO),
    st.tuples(st.just("kill"), WHO, DEADLY),
    st.tuples(st.just("raise"), WHO, DEADLY),
    st.tuples(st.just("worker"), WHO, st.sampled_from(["worker", "worker", "apart"])),
    st.tuples(st.just("worker writes"), WHO, STREAM, TEXT),
    st.tuples(st.just("worker exits"), WHO, CODE),
    st.tuples(st.just("last words"), WHO, CODE, st.sampled_from(["8", "9\n", "10\n1011"])),
    st.tuples(st.just("ill"), WHO),
    st.tuples(st.just("ready"), WHO),
    st.tuples(st.just("signal run"), st.sampled_from([int(signal.SIGUSR1), int(signal.SIGUSR2)])),
)
GRACE = st.sampled_from([NEVER, NEVER, COMMON])
SCRIPT = st.lists(HAPPEN, min_size=4, max_size=30)


@st.composite
def specs(draw: st.DrawFn) -> dict[str, Spec]:
    """A few services, each depending on some that come before it."""
    made: dict[str, Spec] = {}
    for name in NAMES[: draw(st.integers(1, len(NAMES)))]:
        oneshot = draw(st.sampled_from([False, False, False, True]))
        is_any_late = any(spec.check == "late" for spec in made.values())  # of two it would be open who is first
        daemon = not oneshot and draw(st.sampled_from([False, False, False, True]))
        checks = ["", "", "", "notify", "test"] + ["late"] * (not is_any_late and not daemon)
        check = "" if oneshot else draw(st.sampled_from(checks))
        restart = draw(st.sampled_from(["no", "on-failure"] if oneshot else ["no", "on-failure", "always"]))
        times = draw(st.sampled_from([(0.02, 0.1), (NEVER, NEVER)]))
        limit = None if restart == "no" else draw(st.sampled_from([2, 1] if check == "late" else [None, 1, 2]))
        keys: dict[str, Any] = {
            "depends_on": tuple(sorted(draw(st.sets(st.sampled_from(sorted(made)), max_size=2)))) if made else (),
            "essential": draw(st.sampled_from([False, False, False, True])),
            "stop_signal": draw(STOP_SIGNALS),
            "how": draw(st.sampled_from([0, DEFAULT, HANG, 0, 7, 143])),
            "kill_mode": "group" if daemon else draw(st.sampled_from(["group", "group", "mixed"])),
            "daemon": daemon,
            "on_unhealthy": draw(st.sampled_from(["log", "restart"])) if check == "test" else "log",
            "output": draw(st.sampled_from(["named", "named", "plain", "null"])),
        }
        made[name] = Spec(
            oneshot=oneshot, check=check, restart=restart, limit=limit, delay=times[0], max_delay=times[1], **keys
        )
    return made


def text_of(name: str, text: Words, output: str) -> str:
    """What a service writes: every line of it begins with its name, for a plain one has no other mark."""
    if text[0] == "many":
        return f"{name * text[1]}{text[2]}"
    words: str = "\n".join(name + line if line else "" for line in text[1].split("\n"))
    words = words if text[1][-1] != "\n" else words.removesuffix("\n") + "\n"
    return words.replace("\n\n", "\n") if output == "plain" else words
