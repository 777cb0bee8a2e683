"""Wait status: what has become of a process, in the encoding of wait(2)."""

from run.signals import describe

CLD_EXITED, CLD_KILLED, CLD_DUMPED = 1, 2, 3
"""si_code of waitid(2); the others mean that the process was stopped."""


def from_siginfo(code: int, number: int) -> int:
    """The wait status that waitid(2) tells in two parts, si_code and si_status."""
    if code == CLD_EXITED:
        return number << 8
    return number if code in (CLD_KILLED, CLD_DUMPED) else number << 8 | 0x7F


def exit_code(status: int) -> int:
    """The exit code of a process with this wait status: its own, or 128 + n when signal n killed it.

    Source: wait(2) for the encoding, contract, "Exit code" for the rule.
    """
    killed_by = status & 0x7F
    return 128 + killed_by if killed_by else status >> 8 & 0xFF


def stop_signal(status: int) -> int:
    """The signal that stopped a process with this wait status, or 0 if it has ended."""
    return status >> 8 & 0xFF if status & 0xFF == 0x7F else 0


def described(status: int) -> str:
    """How a process with this wait status has ended, in words."""
    killed_by = status & 0x7F
    return f"killed by {describe(killed_by)}" if killed_by else f"exited with code {exit_code(status)}"
