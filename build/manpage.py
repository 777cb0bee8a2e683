"""Print the manual page run.1: for users what spec/contract.md says.

Synopsis and options are those of `run -h`, so that the two cannot drift apart.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import roff

from run import VERSION
from run.cli import USAGE

DATE = "2026-11-27"
"""When the text below was changed last. Not that of the build, which is to give the same bytes every day."""

MORE = """\
.SH DESCRIPTION
.B run
starts one command, or many services, and looks after all that descends from
them until the last process has ended.
It is made to be PID 1 of a container: it adopts and reaps orphans, passes
signals on, stops the rest when one ends, and exits with an exit code that says
what went wrong.
Where it is not PID 1 it makes itself a child subreaper,
.BR prctl (2),
and looks after its own descendants only.
.SS One command
.I cmd
is found as by
.BR execvp (3).
It leads a process group of its own, and inherits what
.B run
was given: environment, arguments, working directory, umask, limits, signal
mask and dispositions, open files.
With
.B \\-u
it runs as another user: see USERS.
.SS Many services
With
.B \\-m
each word is the command line of a service, with
.B \\-f
services are described by a file,
.BR run.toml (5).
Each service leads a session and a process group of its own, has
.I /dev/null
as its standard input, and inherits the rest.
What it writes is passed on line by line, behind its name:
.PP
.RS
.EX
web   | listening on port 8080
redis | Ready to accept connections
.EE
.RE
.PP
A service that is named by
.B \\-m
has the name of its program, the second one of a name with
.BR \\-2 ;
its command line is split into words as a shell would, with quotes and
backslashes, but without patterns, operators and a shell.
Only
.BR ${{NAME}} ,
.B ${{NAME:\\-default}}
and
.B $$
stand for something else:
.BR run.toml (5),
VARIABLES.
.PP
What a file can ask for, with
.B \\-m
none does: an order, restarts, a user, a stop signal of its own.
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
.PP
.BR \\-m ,
.B \\-f
and
.B \\-c
exclude each other.
.B \\-u
is for one command,
.B \\-n
for many services.
What has no effect where it stands is a warning:
.B \\-d
and
.B \\-t
without
.BR \\-s ,
.B \\-d
with
.B \\-m
or
.BR \\-f ,
.B \\-s
with
.BR \\-f .
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
.SS When services are stopped
All services are stopped by TERM, INT or QUIT, by the hangup of the terminal,
and by the end of an essential one: with
.B \\-f
each is that unless the file says otherwise, with
.B \\-m
each is with
.BR \\-s ,
and none is without it.
INT a second time kills.
.PP
The stop signal of a service is that of the file, or of
.BR \\-s ,
else TERM.
KILL follows when the grace is over: the
.I N
seconds of
.BR \\-t ,
else those of the file, which are 9 unless it says otherwise; with
.B \\-m
there is no limit without
.BR \\-t .
.B run
exits as soon as no process is left.
.SH CONTROL
.B run \\-c
asks the
.B run
that has services in the same container, and the same pid namespace:
.BR "docker exec box run \\-c status" .
It is answered to root and to the user that
.B run
runs as, by a socket without a file, so that it works with a read-only root.
.TP
.BR status " [" \\fIname\\fR ...]
a table: name, state, health, pid, for how long, restarts, last exit
.TP
.BR json " [" \\fIname\\fR ...]
all that is known, an object in a line for each service:
.BR run.toml (5),
STATUS
.TP
.BR health " [" \\fIname\\fR ...]
whether these services, or all essential ones, are ready and healthy, or, if
they are oneshots, have succeeded; else a line says who is not
.TP
.BI start " name\\fR..."
Start them; done when they are ready.
What they depend on is not started.
.TP
.BI stop " name\\fR..."
Stop them, with their stop signal and grace; done when they have ended.
They stay stopped, and their end stops nothing else.
.TP
.BI restart " name\\fR..."
Stop them, if they run, and start them; done when they are ready.
.TP
.BI signal " SIG name\\fR..."
Send their main processes a signal, by name or number.
.PP
The exit code is 0 when it is done; 1 when
.B health
finds somebody who is not well, and when an order fails or is refused, with the
reason; 1 also when nobody answers.
An order is refused while all is being stopped.
Ctrl-C ends the waiting, but not the order.
.SH USERS
The user of
.B \\-u
and of a file is what USER of a Dockerfile is:
.IR name ,
.IR uid ,
.I name:group
or
.IR uid:gid ,
or a mixture, from
.I /etc/passwd
and
.I /etc/group
of the image, both of which may be missing, or closed to
.BR run ,
where numbers are given.
.PP
Without a group it is that of the entry, or 0 where there is none; the
supplementary groups are all that name the user.
With a group it is that one alone.
HOME, USER and LOGNAME are set, HOME to
.I /
and the others to the number where there is no entry.
.PP
Another user takes the capabilities CAP_SETUID, CAP_SETGID and CAP_KILL, which
root has in a container unless it was deprived of them.
For the user and group that
.B run
has already nothing is needed, so that one image serves both ways.
.SH EXIT STATUS
.TP
.B 0
everything succeeded, or the help, the version or a plan was shown
.TP
.B 1
.B run \\-c
has nothing good to tell: CONTROL
.TP
.B 125
.B run
itself failed: the command line or the file is wrong, a fork was refused, it
cannot become a subreaper or another user
.TP
.B 126
.I cmd
was found, but cannot be executed, or the interpreter or dynamic loader that
it needs is missing
.TP
.B 127
.I cmd
was not found
.PP
Of one command: the highest exit code of all processes that were reaped,
.I cmd
and adopted orphans alike, where a process killed by signal
.I n
counts as 128 +
.IR n .
.PP
Of many services: that of the service whose end has stopped all, if it is not 0;
else the highest among those that they have ended with last.
One that
.B run
has stopped counts as 0 if it exits with 0, dies of its own stop signal, or
exits with 128 + that signal; if it took KILL it counts as 137.
Orphans do not count.
.SH SIGNALS
None is lost from the moment that
.B run
is executed.
.SS To one command
Every signal that can be caught is passed on, real-time signals included, but
for CHLD and PIPE, the terminal stops TSTP, TTIN and TTOU, and the faults ILL,
TRAP, ABRT, BUS, FPE, SEGV and SYS.
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
.SS To many services
TERM, INT and QUIT stop them.
Any other of the signals above that a process has sent is passed on to the main
process of each service that catches it: HUP reaches nginx, and would kill what
has no handler for it.
.PP
Services have no terminal: Ctrl-C stops them all in order, Ctrl-Z stops
.B run
alone.
When
.B run
dies each is sent its stop signal.
.SH ENVIRONMENT
.TP
.B PATH
where
.I cmd
is looked for;
.I /bin:/usr/bin
if it is unset
.TP
.B NO_COLOR
if it is not empty, the names of services have no colours on a terminal
.PP
The whole environment is passed on as it is, but for what
.B \\-u
and a file say.
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
are listed, and the signals that a service catches.
Without it PID 1 signals everything in its namespace, any other
.B run
the process group of
.IR cmd ;
to services nothing is passed on.
.TP
.IR /etc/passwd ", " /etc/group
who a user is
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
run: [info] web (pid 12): killed by SEGV (11); next start in 0.2 s, restart 2
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
Two services that stand and fall together, in an image without a shell:
.PP
.RS
.EX
ENTRYPOINT ["/bin/run", "\\-ms", "TERM", "\\-t", "9", "\\-\\-"]
CMD ["/bin/web \\-\\-port 8080", "/bin/worker"]
.EE
.RE
.PP
Services by a file, which is checked when the image is built:
.PP
.RS
.EX
COPY services.toml /etc/
RUN ["/bin/run", "\\-nf", "/etc/services.toml"]
ENTRYPOINT ["/bin/run", "\\-f", "/etc/services.toml"]
.EE
.RE
.PP
Whether they are ready and healthy, for Docker:
.PP
.RS
.EX
HEALTHCHECK CMD ["/bin/run", "\\-c", "health"]
.EE
.RE
.PP
One of them, and what it depends on, with 25 seconds to stop:
.PP
.RS
.EX
run \\-t 25 \\-f services.toml web
.EE
.RE
.PP
A command of an image, as another user than root:
.PP
.RS
.EX
ENTRYPOINT ["/bin/run", "\\-u", "app", "\\-\\-"]
CMD ["/bin/my\\-server"]
.EE
.RE
.PP
A command, and whatever it leaves behind when it ends:
.PP
.RS
.EX
run \\-s TERM \\-t 10 sh \\-c \\(aqhelper & exec server\\(aq
.EE
.RE
.PP
Daemons that put themselves into the background; the shell that starts them does
not count:
.PP
.RS
.EX
run \\-ds TERM sh \\-ec \\(aqnginx && dnsmasq\\(aq
.EE
.RE
.SH NOTES
A container that is stopped by TERM ends with 143 (128 + 15) when its one
command dies of it, and with 0 when that catches it and exits with 0.
Services that TERM ends count as 0 in both cases.
.PP
A stopped process is neither continued nor killed, but for KILL when the grace
is over.
.PP
The value of
.BR sigqueue (3)
is passed on where one process gets the signal, not to a group of several.
.PP
Standard error should not be a file on a file system that may stand still,
such as a network's: a write to it would make
.B run
stand still, too.
.PP
What cannot be for services stands in
.BR run.toml (5),
LIMITS.
.SH SEE ALSO
.BR run.toml (5),
.BR sh (1),
.BR kill (2),
.BR prctl (2),
.BR execvp (3),
.BR pid_namespaces (7),
.BR signal (7)
"""


def page() -> str:
    """The manual page."""
    usage, _, options = USAGE.removeprefix("Usage:\n").replace("Options:\n", "", 1).split("\n\n")
    synopsis = "\n.br\n".join(f"\\fBrun\\fR {roff.escaped(line.split(None, 1)[1])}" for line in usage.splitlines())
    items = ""
    for line in options.splitlines():
        name, text = line[:11].strip(), roff.escaped(line[11:])
        items += f".TP\n\\fB{roff.escaped(name)}\\fR\n{text}\n" if name else f"{text}\n"
    return (
        f'.TH RUN 1 {DATE} "run {VERSION}" "User Commands"\n.SH NAME\n'
        "run \\- start a command or services, and look after all that descends from them\n"
        f".SH SYNOPSIS\n{synopsis}\n{MORE.format(options=items)}"
    )


if __name__ == "__main__":
    sys.stdout.write(page())
