"""Wait status: what has become of a process, in the encoding of wait(2)."""


def exit_code(status: int) -> int:
    """The exit code of a process with this wait status: its own, or 128 + n when signal n killed it.

    Source: wait(2) for the encoding, contract, "Exit code" for the rule.
    """
    killed_by = status & 0x7F
    return 128 + killed_by if killed_by else status >> 8 & 0xFF


def stop_signal(status: int) -> int:
    """The signal that stopped a process with this wait status, or 0 if it has ended."""
    return status >> 8 & 0xFF if status & 0xFF == 0x7F else 0
