"""The entry of many services, and of one command with a user: check everything first, then start, or print the plan."""

import os

from run import _kernel, proc
from run.cli import MANY, Options
from run.log import Log
from run.loop import RunError
from run.one.command import Command
from run.services import file, plan, users
from run.services.environment import for_service
from run.services.listing import listing
from run.services.plan import Given, Made, Plan
from run.services.relay import CHUNK
from run.services.supervisor import Supervisor
from run.services.users import User, UserError
from run.signals import TERM
from run.start import CANNOT_RUN
from run.stdout import show

to_the_end: list[Supervisor] = []
"""What is not freed, piece by piece, when it has done its work: the end of the process does that at once."""

EVERYTHING = -1
"""All capabilities, where the kernel does not tell which there are."""


def run_services(options: Options, log: Log) -> int:
    """Start services, or with `-n` print what would be started; return the exit code. Raises RunError."""
    _kernel.keep_freed_memory(4 * CHUNK)
    made = make_plan(options)
    for warning in made.warnings:
        log.warn(warning)
    errors = made.errors
    if made.plan and not options.check:
        errors = not_permitted(made.plan)
    for error in errors:
        log.error(error)
    if errors or made.plan is None:
        return CANNOT_RUN
    if options.check:
        return show(listing(made.plan))
    rest_signal = options.signal if options.signal and options.mode == MANY else TERM
    supervisor = Supervisor(made.plan, options.quiet, rest_signal)
    to_the_end[:] = [supervisor]
    return supervisor.run()


def run_as_user(options: Options, log: Log) -> int:
    """Start a command as the user of `-u`, and return the exit code. Raises RunError."""
    assert options.user is not None
    try:
        passwd, group = users.read_database(users.PASSWD), users.read_database(users.GROUP)
        user = users.resolve(options.user, passwd, group)
    except UserError as error:
        raise RunError(f"option '-u': {error}") from None
    reason = refusal(user)
    if reason:
        raise RunError(f"option '-u': {reason}")
    environment = for_service(_kernel.environment(), user, {}, ())
    return Command(options, log, environment=environment, user=users.switch(user)).run()


def make_plan(options: Options) -> Made:
    """The plan that the command line asks for, and the errors in it."""
    environment = _kernel.environment()
    if options.mode == MANY:
        return plan.from_lines(options.words, Given(environment), options.signal, options.grace, options.check)
    assert options.file is not None
    loaded, errors = file.load(options.file)
    if loaded is None:
        return Made(None, errors, [])
    passwd: bytes | None = b""
    group: bytes | None = b""
    try:
        if any("user" in keys for keys in loaded.services.values()):
            passwd, group = users.read_database(users.PASSWD), users.read_database(users.GROUP)
    except UserError as error:
        errors.append(str(error))
    made = plan.from_file(loaded, options.words, Given(environment, passwd, group), options.grace, options.check)
    errors += made.errors
    return Made(None if errors else made.plan, errors, made.warnings)


def refusal(user: User) -> str | None:
    """Why this process cannot start and stop what is this user's; None where it can, or where nobody knows."""
    try:
        capabilities = _kernel.capabilities()
    except OSError:
        capabilities = EVERYTHING
    uid, gid = os.getuid(), os.getgid()
    reason = users.refusal(user, uid, gid, capabilities)
    if reason or not users.is_other(user, uid, gid):
        return reason
    try:
        reason = users.unmapped(user, proc.read("/proc/self/uid_map"), proc.read("/proc/self/gid_map"))
        return reason or users.groups_denied(proc.read("/proc/self/setgroups"))
    except OSError:
        return None  # the kernel will say less


def not_permitted(made: Plan) -> list[str]:
    """Of each service that cannot be started or stopped by this process, the reason, as a line."""
    found = [(service.name, refusal(service.identity)) for service in made.services if service.identity]
    return [f"{name}: user: {reason}" for name, reason in found if reason]
