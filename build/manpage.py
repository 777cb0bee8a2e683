"""Print the manual page run.1, made from the text of `run -h`, so that the two cannot drift apart."""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from run import VERSION
from run.cli import USAGE

MORE = """\
.SH DESCRIPTION
.B run
{purpose}
It is made to be PID 1 of a container: it adopts and reaps orphans, passes every signal on to whole process groups,
and ends with the worst exit code. Where it is not PID 1 it makes itself a child subreaper, prctl(2).
.PP
Options end at the first word that is none, or at
.BR -- ;
all that follows belongs to
.IR cmd .
SIG may begin with SIG, in any case. N may have a fraction, and is at most 86400.
.BR -d " and " -t
have no effect without
.BR -s .
.SH OPTIONS
{options}.SH EXIT STATUS
The maximum of the exit codes of all processes that were reaped, where a process killed by signal
.I n
counts as 128 +
.IR n .
.TP
.B 125
.B run
itself failed: wrong usage, or the command could not be started
.TP
.B 126
.I cmd
was found, but could not be executed
.TP
.B 127
.I cmd
was not found
.SH SIGNALS
Every signal that can be caught is passed on, but for CHLD, PIPE, the terminal stops TSTP, TTIN and TTOU, and the faults
SEGV, BUS, FPE, ILL, TRAP, SYS and ABRT. It goes to the process group of every process whose parent is
.BR run .
.SH EXAMPLE
Two services that stand and fall together; the shell that starts them does not count:
.PP
.RS
.EX
run -ds TERM -t 10 sh -ec 'service1 & service2 &'
.EE
.RE
.SH SEE ALSO
.BR sh (1),
.BR kill (2),
.BR prctl (2),
.BR signal (7),
.BR pid_namespaces (7)
"""


def escaped(text: str) -> str:
    """Text as roff takes it: groff_man(7)."""
    return re.sub(r"`([^`]*)`", r"\\fI\1\\fR", text.replace("\\", "\\e").replace("-", "\\-"))


def page() -> str:
    """The manual page."""
    usage, purpose, options = USAGE.removeprefix("Usage:\n").replace("Options:\n", "", 1).split("\n\n")
    synopsis = "\n.br\n".join(f"\\fBrun\\fR {escaped(line.split(None, 1)[1])}" for line in usage.splitlines())
    items = ""
    for line in options.splitlines():
        name, text = line[:11].strip(), escaped(line[11:])
        items += f".TP\n\\fB{escaped(name)}\\fR\n{text}\n" if name else f"{text}\n"
    more = MORE.format(
        purpose=escaped("starts" + purpose.removeprefix("Start").replace(", then wait", ", then waits")), options=items
    )
    return (
        f'.TH RUN 1 "" "run {VERSION}" "User Commands"\n.SH NAME\nrun \\- start a command, and wait for it and all its '
        f"descendants\n.SH SYNOPSIS\n{synopsis}\n{more}"
    )


if __name__ == "__main__":
    sys.stdout.write(page())
