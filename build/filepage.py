"""Print the manual page run.toml.5: for users what spec/contract.md says of the file of `-f`.

The keys, their order and their defaults are those of the program, so that they cannot drift apart: a key without a
text, or a text without a key, ends the build.
"""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import roff

from run import VERSION
from run.services import file, healthcheck, status
from run.services.healthcheck import Healthcheck
from run.services.life import LONG_LIFE, Life
from run.services.listing import listing
from run.services.output import LONGEST_NAMED
from run.services.plan import Given, Service, from_file
from run.services.values import MAX_SECONDS
from run.signals import NAMES

DATE = "2026-11-27"
"""When the text below was changed last. Not that of the build, which is to give the same bytes every day."""


class Key(NamedTuple):
    """What is said of a key: its values, what they mean, and an example."""

    values: str
    text: str
    example: str


OF_THE_FILE = {
    "services": Key(
        "a table for each service",
        "`[services.NAME]` begins a service. First those are started that depend on nothing, then those that depend"
        " on these alone, and so on, each time in the order of the file. A file has at least one.",
        "[services.web]\ncommand = '/app/server'",
    ),
    "stop_grace_period": Key(
        "a time",
        "What all services have together to stop. When it is over KILL is sent to whatever is left. Keep it below"
        " what the container is given: `docker stop` waits for 10 seconds, Kubernetes for 30"
        " (terminationGracePeriodSeconds). `-t` overrides it.",
        "stop_grace_period = 25",
    ),
}

OF_A_SERVICE = {
    "command": Key(
        "an array of words, or a string",
        "What is executed. It must be there. A string is split into words as a shell would, with quotes and"
        " backslashes, but without patterns and operators: a bare `|`, `&`, `;`, `<` or `>` is an error. Use `sh"
        " -c` for a shell's work, with `exec` before the last command, so that the service is that one and not the"
        " shell. The first word is looked for in the service's PATH, or is a path.",
        'command = ["/app/server", "--port", "8080"]\n'
        "command = \"nginx -g 'daemon off;'\"\n"
        'command = ["sh", "-c", "umask 027 && exec /app/server"]',
    ),
    "oneshot": Key(
        "true or false",
        "With true the service is to end: with 0 it has succeeded and is `done`, and only then is it ready for"
        " those that depend on it. Its success ends nothing. Otherwise it has failed, which `restart ="
        " 'on-failure'` may mend.",
        "[services.migrate]\ncommand = '/app/migrate'\noneshot = true",
    ),
    "essential": Key(
        "true or false",
        "When an essential service has ended for good, well or badly, all others are stopped, and its exit code"
        " is that of `run`, if it is not 0. With false its end stops nothing: a helper.",
        "[services.metrics]\ncommand = '/app/exporter'\nessential = false\nrestart = 'always'",
    ),
    "restart": Key(
        "'no', 'on-failure' or 'always', the last two also with :N",
        "Whether it is started again when it has ended: never, when its exit code was not 0, or in any case. With"
        " `:N` at most N times in a row. A command that cannot be executed is not tried again.",
        "restart = 'on-failure:5'",
    ),
    "restart_delay": Key(
        "a time",
        "The wait before the first restart. It doubles with each further one, up to `restart_max_delay`: see RESTARTS.",
        "restart_delay = '500ms'",
    ),
    "restart_max_delay": Key(
        "a time",
        "The longest wait before a restart.",
        "restart_max_delay = '5m'",
    ),
    "depends_on": Key(
        "an array of names of services",
        "This service is started when all of these are ready, and is stopped before they are. If one of them"
        " fails for good it is not started, and has failed, too. Without it a service is started at once.",
        "depends_on = ['migrate', 'redis']",
    ),
    "user": Key(
        "a user or user:group, each a name or a number",
        "Who it runs as, as `USER` of a Dockerfile: see USERS in run(1). Without it, who `run` is.",
        "user = 'redis'\nuser = '1000:1000'\nuser = '${APP_UID:-1000}'",
    ),
    "working_dir": Key(
        "a path",
        "The directory that it is started in. It is entered as the service's user. Without it, that of `run`.",
        "working_dir = '/var/lib/redis'",
    ),
    "umask": Key(
        "a string of octal digits",
        "The file mode creation mask. Without it, that of `run`.",
        "umask = '027'",
    ),
    "environment": Key(
        "a table of strings or integers",
        "Variables that are added to those that `run` was given, or replace them.",
        "environment = { LOG_LEVEL = 'info', PORT = 8080 }",
    ),
    "unset_environment": Key(
        "an array of names of variables",
        "Variables that the service does not get, such as the secrets of others. They are gone even if"
        " `environment` sets them. NOTIFY_SOCKET is not, where the healthcheck is `notify`.",
        "unset_environment = ['DATABASE_PASSWORD']",
    ),
    "stop_signal": Key(
        "a signal: its name or its number",
        "What asks it to stop, and what it gets when `run` dies. A name is accepted with or without `SIG`, in any"
        " case; real-time signals are `RTMIN+N` and `RTMAX-N`.",
        "stop_signal = 'QUIT'     # nginx finishes its responses\n"
        "stop_signal = 'INT'      # PostgreSQL ends its sessions",
    ),
    "stop_grace_period": Key(
        "a time",
        "After that long KILL follows, if the service has not ended. It cannot be longer than what is left of the"
        " common time when all services are stopped. Without it, it is that.",
        "stop_grace_period = 5",
    ),
    "kill_mode": Key(
        "'group' or 'mixed'",
        "Whom the stop signal goes to. `group`: the whole process group of the service. `mixed`: its main process"
        " alone, and what is left of the group when that one has ended gets KILL. It says nothing of a `daemon`.",
        "kill_mode = 'mixed'      # the workers are the main process's business",
    ),
    "daemon": Key(
        "true or false",
        "For a program that puts itself into the background. The service is ready when the process that was"
        " started has ended with 0, and it lives until the last of its descendants has ended. Meanwhile a second"
        " process of `run` keeps it, which the log names as its pid; signals go to the process groups of that"
        " one's children, and when it is killed, so is what it keeps. Where a program can stay in the foreground, that"
        " is better: see LIMITS.",
        "[services.proxy]\ncommand = 'tinyproxy'\ndaemon = true",
    ),
    "healthcheck": Key(
        "a table",
        "How the service shows that it is ready and healthy: see KEYS OF A HEALTHCHECK.",
        "healthcheck = { tcp = 5432, interval = 10 }",
    ),
    "on_unhealthy": Key(
        "'log' or 'restart'",
        "What follows when the healthcheck finds it unhealthy: a line of the log, or also a restart, whatever"
        " `restart` says, within its `:N`. It counts as a failure.",
        "on_unhealthy = 'restart'",
    ),
    "output": Key(
        "'named', 'plain', 'inherit' or 'null'",
        "What becomes of what it writes to stdout and stderr: whole lines behind its name, whole lines as they"
        " are, whatever `run` has been given, or nothing: see OUTPUT.",
        "output = 'plain'         # lines of JSON stay lines of JSON",
    ),
}

OF_A_HEALTHCHECK = {
    "test": Key(
        "an array of words, or a string",
        "A command that succeeds with 0. It is executed as the service's user, in its environment and directory,"
        " in a session of its own; what it leaves behind is killed. What it writes is shown when it fails, at most"
        " 2048 bytes. As in Compose a first word `CMD` of an array is skipped, and `CMD-SHELL` is `/bin/sh -c`.",
        "healthcheck = { test = ['pg_isready'] }",
    ),
    "tcp": Key(
        "a port, or a string 'host:port'",
        "The port takes a connection. The host is numeric, or `localhost`, which is also what is meant without it.",
        "healthcheck = { tcp = 5432 }\nhealthcheck = { tcp = '[::1]:5432' }",
    ),
    "unix": Key(
        "a path",
        "The socket there takes a connection.",
        "healthcheck = { unix = '/run/app.sock' }",
    ),
    "http": Key(
        "an address",
        "GET is answered with a status from 200 to 399. The host is numeric, or `localhost`. There is no https.",
        "healthcheck = { http = 'http://127.0.0.1:8080/health' }",
    ),
    "notify": Key(
        "true",
        "The service says itself that it is ready, as in sd_notify(3): `READY=1` to the socket that"
        " `NOTIFY_SOCKET` names. Only what its own processes send counts. Nothing more is asked then. `STATUS=` is"
        " shown by `run -c status`.",
        "healthcheck = { notify = true }",
    ),
    "interval": Key(
        "a time",
        "Between two probes of a service that is ready.",
        "healthcheck = { tcp = 80, interval = '1m' }",
    ),
    "timeout": Key(
        "a time",
        "A probe that takes longer has failed.",
        "healthcheck = { tcp = 80, timeout = 5 }",
    ),
    "retries": Key(
        "a whole number",
        "So many failures in a row are unhealthy.",
        "healthcheck = { tcp = 80, retries = 5 }",
    ),
    "start_period": Key(
        "a time",
        "Until the first success. A service that has had none by then has failed.",
        "healthcheck = { tcp = 80, start_period = '5m' }",
    ),
    "start_interval": Key(
        "a time",
        "Between two probes before the first success.",
        "healthcheck = { tcp = 80, start_interval = '200ms' }",
    ),
}

OF_JSON = {
    "name": "of the service",
    "state": "as in THE LIFE OF A SERVICE, or `stopped`",
    "wanted": "`up`, `down`, or `again`: first down, and then up",
    "health": "`starting`, `healthy` or `unhealthy`; null without a healthcheck, and while nothing runs",
    "health_reason": "why the last probe has failed, or null",
    "pid": "of the main process, or null",
    "since": "when the state began, in seconds since 1970",
    "seconds": "how long that is ago",
    "restarts": "how often it was restarted after the end of a life, or is about to be",
    "restarts_in_a_row": "how often since the count has begun anew",
    "next_start_in": "seconds, while it waits to be restarted, else null",
    "exit_code": "of the last life, 128 + n for signal n; null before there was one",
    "last_end": "how that one has ended, in words, or null",
    "status": "what the service tells of itself, `STATUS=` of sd_notify(3), or null",
    "command": "its words",
    "user": "as in the file, with its variables replaced, or null",
    "depends_on": "as in the file",
    "oneshot": "true or false",
    "essential": "true or false",
    "daemon": "true or false",
    "restart": "`no`, `on-failure` or `always`",
    "stop_signal": "its name",
}
"""What `run -c json` tells of a service."""

INDENT = "11"
"""Of the examples of keys: a little more than that of the texts."""

HOW_IT_IS_ASKED = """\
One of
.BR test ,
.BR tcp ,
.BR unix ,
.B http
and
.B notify
says how a service is asked whether it is well.
The first probe comes at once, then one in each
.BR start_interval ,
until the first success: that makes the service ready, and those that depend on
it may start.
Without one within
.B start_period
this life has failed: it is stopped, and counts as 124 if it ends well.
.PP
From then on there is one probe in each
.BR interval ,
and
.B retries
failures in a row are unhealthy, until the next success.
That is logged;
.B on_unhealthy
says whether anything else follows.
A probe never begins before the last one has ended, and does not outlive the
service.
"""

WHOLE = """\
# /etc/services.toml
stop_grace_period = 9              # below the 10 that docker gives

[services.migrate]                 # once, before the others
command = ["/app/migrate", "--to", "latest"]
oneshot = true
user = "app"

[services.redis]
command = "redis-server --save ''"
user = "redis:redis"

[services.web]
command = "/app/server --port ${PORT:-8080}"
depends_on = ["migrate", "redis"]
user = "1000:1000"
working_dir = "/app"
environment = { LOG_LEVEL = "info" }
restart = "on-failure:5"
stop_signal = "QUIT"

[services.metrics]                 # a helper: nobody stops for it
command = "/app/exporter"
depends_on = ["web"]
essential = false
restart = "always"
restart_max_delay = "5m"
"""
"""An example of a whole file."""

BEFORE = """\
.SH DESCRIPTION
The file that
.B run \\-f
takes, whatever its name is: services, each with a command, and how they are
started, looked after and stopped.
It is TOML 1.0 in UTF-8, a regular file of at most 1 MiB.
Its words are those of Docker Compose where Compose has one.
.PP
All of it is checked before anything is started.
Each error gives a line with the file's name, the service and the key or the
line, what is accepted, and the nearest accepted word; the exit code is 125.
.B run \\-nf
checks, prints what would be started, in which order and how, and starts
nothing.
In a Dockerfile:
.PP
.RS
.EX
COPY services.toml /etc/
RUN ["/bin/run", "\\-nf", "/etc/services.toml"]
ENTRYPOINT ["/bin/run", "\\-f", "/etc/services.toml"]
.EE
.RE
"""

AFTER = """\
.SH TIMES
A number of seconds, whole or not, or a string of numbers with the units us,
ms, s, m and h:
.BR 10 ,
.BR 0.5 ,
.BR \\(dq500ms\\(dq ,
.BR \\(dq1m30s\\(dq .
More than 0, and at most {most} seconds, which is a day.
.SH VARIABLES
In
.BR command ,
.BR environment ,
.B working_dir
and
.BR user :
.TP
.B ${{NAME}}
the value of a variable that
.B run
was given.
One that is not set is an error; with
.B \\-n
it is a warning, since the variables of a container do not exist when its image
is built.
.TP
.B ${{NAME:\\-default}}
the default where the variable is not set or empty.
It may hold variables itself.
.TP
.B $$
a dollar sign.
A dollar before anything else stays what it is, such as
.BR $HOME ,
which a shell would see.
.PP
Words are split before that, so that a value with blanks in it stays one word.
.SH NAMES
The name of a service has 1 to 64 letters, digits, and the characters
.RB \\(dq _ \\(dq,
.RB \\(dq \\- \\(dq
and
.RB \\(dq . \\(dq.
One with a dot in it is quoted in TOML:
.BR [services.\\(dqa.b\\(dq] .
.PP
.B run \\-f
.I FILE NAME
starts the services that are named, and all that they depend on.
The variables and users of the others are not looked at.
.SH THE LIFE OF A SERVICE
.TP
.B waiting
Nothing runs.
It is started once all that it depends on are ready.
.TP
.B starting
It runs, and is not ready yet.
.TP
.B ready
It runs, and who depends on it may start.
A service is ready as soon as its command is executed; a
.B oneshot
when it has ended with 0, and a
.B daemon
when its first process has; with a
.B healthcheck
at its first success.
.TP
.B stopping
It was sent its stop signal; or it has crashed, and what is left of it was
killed.
.TP
.B restarting
Nothing runs.
It waits for its next start.
.TP
.B done
A oneshot that has succeeded.
.TP
.B ended
For good, without a failure; or stopped.
.TP
.B failed
For good.
.PP
.B run \\-c status
shows them; one that was stopped by
.B run \\-c stop
it calls
.BR stopped .
.PP
Each service leads a session and a process group of its own, and has no
terminal; its standard input is
.IR /dev/null .
A life ends when its main process and that process group are gone.
When the main process ends with another code than 0, or by a signal, KILL is
sent to what is left of the group.
.PP
A command that cannot be executed (126, 127), or whose directory cannot be
entered (126), has failed for good.
When nothing is left that runs or will,
.B run
ends, unless something was stopped by
.BR "run \\-c stop" .
.SH RESTARTS
Docker's curve: the wait before a restart is
.BR restart_delay ,
and twice as long each time, up to
.BR restart_max_delay .
With the defaults these are
{curve} seconds.
After a life of {long:g} seconds both the wait and the count of
.B :N
begin anew.
.SH ORDER
Each service is started when those that it depends on are ready, and all that
depend on nothing are started at once.
They are stopped in reverse order: a service gets its stop signal when those
that depend on it are gone, and those that do not depend on each other get it at
the same time.
.SH STOP
All services are stopped by TERM, INT or QUIT from outside, by Ctrl\\-C, by the
hangup of the terminal, or by the end of an essential service.
INT a second time kills them.
.PP
Each gets its stop signal, and KILL when its own
.B stop_grace_period
or the common one is over.
When two thirds of the common one are over every service that is left gets its
stop signal, whoever it would have to wait for.
What belongs to no service, such as an orphan of a service, goes last.
As soon as all are gone
.B run
exits.
.PP
A service that was stopped so counts as 0 for the exit code if it ends with 0,
dies of its own stop signal, or ends with 128 + that signal, as Java does; if it
took KILL it counts as 137.
See EXIT STATUS in
.BR run (1).
.SH OUTPUT
.TP
.B named
Each line stands behind the name of its service, the names padded to the
longest one.
A line of more than {named} bytes is cut, as Docker's log would cut it, and goes
on behind a plus sign instead of the bar.
Names have colours on a terminal, unless
.B NO_COLOR
is set:
.IP
.EX
web     | listening on port 8080
migrate | done
.EE
.TP
.B plain
The same without the names; lines are whole up to 1 MiB.
.TP
.B inherit
The service gets the very stdout and stderr of
.BR run .
Nothing is read, and lines of several services may be mixed.
.TP
.B null
It is thrown away.
.PP
With
.B named
and
.BR plain ,
stdout goes to stdout and stderr to stderr; of each the order is kept, but not
between the two.
No line is lost or mixed with another: the last words of a service are read
before its end is logged.
A last line without an end is shown, and ended.
A service can open
.I /dev/stdout
anew, whoever it runs as.
When nobody reads what
.B run
writes, services have to wait for that, but signals, ends and restarts do not;
at the end
.B run
waits for the reader no longer than 2 seconds, and says how much was dropped.
.SH STATUS
.B run \\-c json
gives an object of JSON in a line for each service.
Its names stay what they are; there may be more in a later version.
{json}.SH EXAMPLES
{whole}.PP
What
.B run \\-nf
shows for it:
.PP
{plan}.SH LIMITS
After a crash what is left of the process group is killed, but not what leads
a session of its own, as the backends of PostgreSQL do: they have to end by
themselves.
.PP
Which process of a
.B daemon
is its main one cannot be known.
Of nginx, whose workers live on when the master is killed, a
.B daemon
would be said to live, too: use
.B daemon off;
instead.
.PP
From version 1.28 on Kubernetes kills the whole container when one process in it
runs out of memory, where it uses cgroup v2:
.B restart
never sees it.
.PP
Two pipes for each service whose output is
.B named
or
.B plain
take four file descriptors, which a limit of 1024 gives to about 250 services;
too few are an error before anything is started.
.PP
A service has no terminal and no standard input.
The file is read once, when
.B run
starts.
.SH SEE ALSO
.BR run (1),
.BR signal (7),
.BR credentials (7)
.PP
TOML: https://toml.io
"""


def plan_of(content: str) -> str:
    """What `-n` shows for a file, in an image that has the two users."""
    found, errors = file.parse(content.encode(), "services.toml")
    given = Given([], b"app:x:101:101::/app:\nredis:x:102:102::/var/lib/redis:\n", b"redis:x:102:\n")
    plan, more, warnings = from_file(found, [], given, None, False)
    if plan is None or errors or more or warnings:
        raise SystemExit(f"filepage: {errors} {more} {warnings}")
    return listing(plan)


def toml(value: object) -> str:
    """A value as the file has it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else f"'{value}'" if isinstance(value, str) else str(value)


def same(heading: str, names: Iterable[str], texts: Mapping[str, object]) -> list[str]:
    """These names, which must be those that there are texts for."""
    found = list(names)
    if set(found) != set(texts):
        raise SystemExit(f"filepage: {heading}: text and program differ in {sorted(set(found) ^ set(texts))}")
    return found


def listed(heading: str, keys: Iterable[str], texts: Mapping[str, Key], defaults: Mapping[str, object]) -> str:
    """A section on these keys."""
    found = f".SH {heading}\n"
    for name in same(heading, keys, texts):
        key = texts[name]
        default = defaults.get(name)
        text = key.text if default in (None, ()) else f"{key.text} Default: `{toml(default)}`."
        found += f".TP\n\\fB{roff.escaped(name)}\\fR = {roff.escaped(key.values)}\n"
        found += roff.prose(text) + roff.example(key.example, INDENT)
    return found


def page() -> str:
    """The manual page."""
    fields = Service._field_defaults
    defaults = fields | {"stop_signal": NAMES[fields["stop_signal"] - 1]}
    of_health = Healthcheck._field_defaults
    names = status.values(Life(Service("x", [], [])), None, None, 0.0, 0.0)
    waits = [min(fields["restart_delay"] * 2.0**n, fields["restart_max_delay"]) for n in range(11)]
    sections = [
        listed("KEYS OF THE FILE", file.TOP_KEYS, OF_THE_FILE, {"stop_grace_period": file.DEFAULT_GRACE}),
        listed("KEYS OF A SERVICE", file.CHECKS, OF_A_SERVICE, defaults),
        listed(
            "KEYS OF A HEALTHCHECK",
            [*healthcheck.CHECKS, *healthcheck.TIMES],
            OF_A_HEALTHCHECK,
            {key: of_health[key] for key in healthcheck.TIMES},
        ).replace("\n", "\n" + HOW_IT_IS_ASKED, 1),
    ]
    return (
        f'.TH RUN.TOML 5 {DATE} "run {VERSION}" "File Formats"\n'
        ".SH NAME\nrun.toml \\- the services that run \\-f starts\n"
        ".SH SYNOPSIS\n.nf\n[services.\\fINAME\\fR]\n\\fIkey\\fR = \\fIvalue\\fR\n.fi\n"
        + BEFORE
        + "".join(sections)
        + AFTER.format(
            most=MAX_SECONDS,
            curve=", ".join(f"{wait:g}" for wait in waits[:-1]) + f" and {waits[-1]:g}",
            long=LONG_LIFE,
            named=LONGEST_NAMED,
            whole=roff.example(WHOLE),
            plan=roff.example(plan_of(WHOLE)),
            json="".join(f".TP\n.B {name}\n{roff.prose(OF_JSON[name])}" for name in same("STATUS", names, OF_JSON)),
        )
    )


if __name__ == "__main__":
    sys.stdout.write(page())
