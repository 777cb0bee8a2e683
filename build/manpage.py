"""Print the manual page run.1: for users what spec/contract.md says.

Synopsis and options are those of `run -h`, so that the two cannot drift apart.
"""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from run import VERSION
from run.cli import USAGE

DATE = "2026-11-27"
"""When the text below was changed last. Not that of the build, which is to give the same bytes every day."""

MORE = """\
.SH DESCRIPTION
.B run
{purpose}
It is made to be PID 1 of a container: it adopts and reaps orphans, passes
every signal on to whole process groups, stops the rest when one process ends,
and exits with the worst exit code.
Where it is not PID 1 it makes itself a child subreaper,
.BR prctl (2),
and looks after its own descendants only.
.PP
.I cmd
is found as by
.BR execvp (3).
It leads a process group of its own, and inherits what
.B run
was given: environment, arguments, working directory, umask, limits, signal
mask and dispositions, open files.
.SH OPTIONS
{options}.PP
Options end at the first word that is none, or at
.BR \\-\\- ;
all that follows belongs to
.IR cmd .
They can be joined
.RB ( "\\-qds TERM" ,
.BR \\-t10 ).
When one is repeated the last one counts.
.PP
.I SIG
may begin with SIG, in upper or lower case.
.I N
may have a decimal fraction, and is at most 86400.
.B \\-d
and
.B \\-t
have no effect without
.BR \\-s .
.SS When the signal of \\-s is sent
At the first termination of
.I cmd
or of a process that was re-parented to
.BR run ,
well or badly, it is sent to all that remain, once; and to whoever is
re-parented to
.B run
afterwards.
These ends do not count:
.IP \\(bu 2
with
.BR \\-d ,
the exit of
.I cmd
with code 0;
.IP \\(bu 2
with
.BR \\-d ,
the step of a daemon into the background: a process that exits with code 0 and
has led a session in which a child of
.B run
lives on;
.IP \\(bu 2
an orphan of a session from outside, such as that of
.BR "docker exec" ,
as long as the leader of the session lives.
.PP
With
.B \\-t
KILL follows
.I N
seconds after that signal, and again for whatever is then re-parented to
.BR run .
.B run
exits as soon as no process is left.
.SH EXIT STATUS
The highest exit code of all processes that were reaped,
.I cmd
and adopted orphans alike, where a process killed by signal
.I n
counts as 128 +
.IR n .
.TP
.B 0
every process succeeded, or the help or version was shown
.TP
.B 125
.B run
itself failed: the command line is wrong, a fork was refused, it cannot become
a subreaper
.TP
.B 126
.I cmd
was found, but cannot be executed, or the interpreter or dynamic loader that
it needs is missing
.TP
.B 127
.I cmd
was not found
.SH SIGNALS
Every signal that can be caught is passed on, real-time signals included, but
for CHLD and PIPE, the terminal stops TSTP, TTIN and TTOU, and the faults ILL,
TRAP, ABRT, BUS, FPE, SEGV and SYS.
None is lost from the moment that
.B run
is executed.
.PP
A signal goes to the process group of every process whose parent is
.BR run ,
each group once.
A process in the group of
.B run
itself gets it alone.
Groups further down are the business of their parents.
.PP
When
.B run
dies,
.I cmd
is sent the signal of
.BR \\-s ,
else TERM.
.PP
At a terminal
.I cmd
has the foreground.
Under a shell with job control
.B run
is a job like any other: Ctrl-Z stops
.I cmd
and
.BR run .
Where nobody could continue the job, as in
.BR "docker run \\-it" ,
it has no effect.
.SH ENVIRONMENT
.TP
.B PATH
where
.I cmd
is looked for;
.I /bin:/usr/bin
if it is unset
.PP
The whole environment is passed on as it is.
No other variable changes what
.B run
does, except in a build that unpacks itself:
.TP
.B TMPDIR
the first place to unpack in; then
.IR /tmp ", " /dev/shm ", " /run ", " /var/tmp " and " /
.SH FILES
.TP
.I /proc
where the children of
.B run
are listed.
Without it PID 1 signals everything in its namespace, any other
.B run
the process group of
.IR cmd .
.TP
.I /bin/sh
what a script without an interpreter line is given to
.PP
Nothing is written to any file.
.SH DIAGNOSTICS
The log goes to standard error, a line per event:
.PP
.RS
.EX
run: [info] pid 7: exited with code 0
.EE
.RE
.PP
The levels are info, warn and error;
.B \\-q
drops info,
.B \\-qq
warn too.
A line that cannot be written at once is dropped, so that whoever does not
read the log cannot stop
.BR run .
.SH EXAMPLES
Two services that stand and fall together; the shell that starts them does not
count:
.PP
.RS
.EX
run \\-ds TERM \\-t 10 sh \\-ec \\(aqservice1 & service2 &\\(aq
.EE
.RE
.PP
Daemons that put themselves into the background:
.PP
.RS
.EX
run \\-ds TERM sh \\-ec \\(aqnginx && dnsmasq\\(aq
.EE
.RE
.PP
A command of an image:
.PP
.RS
.EX
ENTRYPOINT ["/bin/run", "\\-\\-"]
CMD ["/bin/my\\-server"]
.EE
.RE
.SH NOTES
A container that is stopped by TERM ends with 143 (128 + 15) when its services
die of it, and with 0 when they catch it and exit with 0.
.PP
A stopped process is neither continued nor killed, but for KILL after
.BR \\-t .
.PP
The value of
.BR sigqueue (3)
is passed on where one process gets the signal, not to a group of several.
.PP
Standard error should not be a file on a file system that may stand still,
such as a network's: a write to it would make
.B run
stand still, too.
.SH SEE ALSO
.BR sh (1),
.BR kill (2),
.BR prctl (2),
.BR execvp (3),
.BR pid_namespaces (7),
.BR signal (7)
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
        f'.TH RUN 1 {DATE} "run {VERSION}" "User Commands"\n.SH NAME\n'
        "run \\- start a command, and wait for it and all its descendants\n"
        f".SH SYNOPSIS\n{synopsis}\n{more}"
    )


if __name__ == "__main__":
    sys.stdout.write(page())
