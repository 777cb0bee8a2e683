"""Job control, decided: who has the terminal, and what follows when the job is stopped or continued.

No system call in here. Source: contract, "Starting the command" and "When a process ends"; "Job Control" in the manual
of the GNU C library.

Who has the terminal is asked of the kernel whenever it matters, since a shell gives and takes it without a word. The
job only remembers to which process group `run` has lent it, if to any:

    from        when                                                                               to
    not lent    started, continued, or the command was stopped for want of it, and `run` has it    lent
    lent        the main command has ended, and has it: it is taken back                           not lent
    lent        somebody else has it, or `run`                                                     not lent
"""

from run.signals import TERMINAL_STOPS, TSTP, contains

NOBODY = "nobody"
"""There is no controlling terminal."""
RUN = "run"
"""The process group of `run` is the foreground group."""
COMMAND = "command"
"""The process group that the terminal was lent to is the foreground group."""
OTHERS = "others"
"""Another process group is."""

NOTHING = "nothing"
LEND = "lend"
"""Make the command's group the foreground group, and continue it."""
SUSPEND = "suspend"
"""Stop `run`, too, and with it what else is in its group, so that the shell sees its job stopped."""


class Job:
    """What a shell sees as one job: `run`, the command, and what descends from it."""

    def __init__(self) -> None:
        """Nothing is lent, nothing is stopped."""
        self.lent_to = 0
        """The process group that has the terminal from `run`, 0 for none."""
        self.is_suspended = False
        """Whether the job is stopped, though `run` is not: in a process group of an outer pid namespace."""
        self.stopped: set[int] = set()
        """The process groups that a Ctrl-Z has stopped, and that go on when the job does."""

    def may_be_lent(self, foreground: str) -> bool:
        """Whether `run` has the terminal, and may lend it. To be told whenever the kernel was asked who has it."""
        if foreground != COMMAND:
            self.lent_to = 0
        return foreground == RUN

    def lent(self, group: int) -> None:
        """Take note that this group has the terminal now."""
        self.lent_to = group

    def must_be_taken_back(self, foreground: str) -> bool:
        """Whether the terminal is to be taken, now that the main command has ended: only from whom it was lent to."""
        was_lent, self.lent_to = self.lent_to, 0
        return bool(was_lent) and foreground == COMMAND

    def stop_typed(self, groups: set[int]) -> str:
        """Ctrl-Z came to `run`, not to the command: these groups are sent it now. What to do besides."""
        self.stopped = groups
        return NOTHING if groups else SUSPEND

    def child_stopped(self, signum: int, group: int, is_main: bool, main_lives: bool, foreground: str) -> str:
        """What follows when a child in this group was stopped by this signal.

        Only for the stops of a terminal: SIGSTOP is somebody else's doing. As long as the main command lives, it is the
        one whose stop counts.
        """
        if not contains(TERMINAL_STOPS, signum) or foreground == NOBODY:
            return NOTHING
        if is_main:
            if signum != TSTP and self.may_be_lent(foreground):
                return LEND  # the shell has brought a running job to the foreground, which it tells nobody
            self.stopped.add(group)
            return SUSPEND
        return SUSPEND if not main_lives and signum == TSTP and group in self.stopped else NOTHING

    def continued(self) -> set[int]:
        """The groups to be continued, now that the job goes on."""
        groups, self.stopped, self.is_suspended = self.stopped, set(), False
        return groups
