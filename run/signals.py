"""Signals as plain data: their names, and the sets that the contract, "Signals", tells apart.

A set of signals is an integer in which bit n - 1 stands for signal n, as in run._kernel. The numbers are those that
signal(7) gives for x86, ARM and most other machines. The standard library's `signal` would do, but costs each start a
millisecond for its enumerations.
"""

HUP, INT, QUIT, ILL, TRAP, ABRT, BUS, FPE, KILL, USR1, SEGV, USR2, PIPE, ALRM, TERM = range(1, 16)
CHLD, CONT, STOP, TSTP, TTIN, TTOU = range(17, 23)
XCPU, XFSZ = 24, 25
SYS = 31
RTMIN = 34  # 32 and 33 belong to the C library, and have no name
RTMAX = 64

NAMES = (
    *("HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM"),
    *("TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF"),
    *("WINCH", "IO", "PWR", "SYS"),
)

SENDABLE = {"INT": INT, "TERM": TERM, "KILL": KILL, "QUIT": QUIT, "HUP": HUP, "USR1": USR1, "USR2": USR2}
"""What `-s` takes, in the order in which the contract lists it."""


def signal_set(*signums: int) -> int:
    """The set of these signals."""
    members = 0
    for signum in signums:
        members |= 1 << (signum - 1)
    return members


ALL_SIGNALS = (1 << RTMAX) - 1
FAULT_SIGNALS = signal_set(SEGV, BUS, FPE, ILL, TRAP, SYS, ABRT)
TERMINAL_STOPS = signal_set(TSTP, TTIN, TTOU)

FORWARDED = ALL_SIGNALS & ~FAULT_SIGNALS & ~TERMINAL_STOPS & ~signal_set(KILL, STOP, CHLD, PIPE)
"""What is passed on: every signal that can be caught, with the exceptions of the contract, "Signals"."""


def contains(signals: int, signum: int) -> bool:
    """Whether the set has this signal."""
    return bool(signals & signal_set(signum))


def describe(signum: int) -> str:
    """Name and number of a signal, such as `TERM (15)` or `RTMIN+1 (35)`."""
    if signum <= len(NAMES):
        name = NAMES[signum - 1]
    elif signum < RTMIN:
        return f"signal {signum}"
    else:
        name = f"RTMIN+{signum - RTMIN}" if signum > RTMIN else "RTMIN"
    return f"{name} ({signum})"
