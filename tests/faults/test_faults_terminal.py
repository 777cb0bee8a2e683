"""Contract, "Starting the command" and "Bad days": calls of ioctl(2), of which tcsetpgrp(3) is one, that fail in `run`.

The calls of the child, and tcsetpgrp alone, are in test_faults_refused.py.
"""

from pathlib import Path

from faults import ALWAYS, ONCE, every_errno, failed, injection, traced_calls
from harness import DEADLINE
from terminal_session import session


@every_errno("tcsetpgrp", ONCE, "2", "3", ALWAYS, drawn=2, calls=3)
def test_the_command_runs_whatever_the_terminal_refuses(binary: str, tmp_path: Path, error: str, when: str) -> None:
    """The first two calls ask who has the terminal, the third takes it back after the command has ended."""
    with session(*injection(tmp_path, "ioctl", error, when), binary, "sh", "-c", "echo started; exit 7") as terminal:
        shown = terminal.expect("exiting with code 7")
        assert terminal.leader.wait(DEADLINE) == 7
        assert "started\r\n" in shown
        assert "[error]" not in shown and "[warn]" not in shown
    assert failed(traced_calls(tmp_path / "trace"))
