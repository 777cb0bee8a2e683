"""The model of `run` in the chaos tests: what the contract says, as changes of a World. No system call in here.

Where several things are under way at once the kernel may do them in any order, so that a world has several successors;
outcomes() follows them all to where nothing moves any more.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from chaos_node import KILL, NOBODY, OUTSIDE, RUN, ZOMBIE, Node, Words
from chaos_world import Run, Setup, World

MOST_WORLDS = 6000
"""More than so many ways in which one step may go are not followed."""

MOST_NODES = 7


class TooManyWaysError(Exception):
    """There are too many ways in which this may go."""


def beginning(setup: Setup) -> World:
    """The world in which `run` has started the command, which is node 0, in a group of its own."""
    main = Node(parent=RUN, group=0, session=RUN)
    return World(Run(setup), (main, *[None] * (MOST_NODES - 1)))


def children(world: World) -> list[tuple[int, Node]]:
    """Those whose parent is `run`, zombies included."""
    return [(i, node) for i, node in world.there() if node.parent == RUN]


def sending(signum: int, whom: list[tuple[int, int]], alone: set[int]) -> tuple[tuple[int, str, int], ...]:
    """Contract, "Signals": each group of these once, but those alone who are in one of some groups."""
    groups = sorted({group for _, group in whom} - alone)
    single = [i for i, group in whom if group in alone]
    return (*((signum, "group", group) for group in groups), *((signum, "node", i) for i in single))


def send_all(world: World, signum: int) -> World:
    """Begin to send a signal to all children."""
    whom = [(i, node.group) for i, node in children(world)]
    members = tuple((i, group) for i, group in whom if group != RUN)
    told_by_group = (signum, members, (RUN,)) if members else None
    return world.change_run(sending=sending(signum, whom, {RUN}), told_by_group=told_by_group)


def serve(world: World, signum: int) -> World:
    """Begin to send the signal of -s to all children: from then on they have it."""
    mine = children(world)
    groups = tuple(sorted({node.group for _, node in mine} - {RUN}))
    return send_all(world, signum).change_run(served=tuple(i for i, _ in mine), served_groups=groups)


def serve_newcomers(world: World, signum: int) -> World:
    """Begin to send it to who was re-parented to `run` since, each group once."""
    run = world.run
    whom = [(i, node.group) for i, node in children(world) if i not in run.served]
    new = [(i, group) for i, group in whom if group not in run.served_groups]
    members = tuple((i, group) for i, group in new if group != RUN)
    alone = (RUN, *run.served_groups)
    return world.change_run(
        looks=False,
        sending=sending(signum, new, {RUN}),
        told_by_group=(signum, members, alone) if members else None,
        served=tuple(sorted({*run.served, *(i for i, _ in whom)})),
        served_groups=tuple(sorted({*run.served_groups, *(group for _, group in members)})),
    )


def send_again(world: World, signum: int, members: tuple[tuple[int, int], ...], alone: tuple[int, ...]) -> World:
    """Once all is sent: those in another group by now get it by that group, or alone if it has got it already."""
    moved = [(i, now) for i, group in members if (now := world.node(i).group) != group]
    told = {group for _, group in members}
    return world.change_run(sending=sending(signum, moved, {*alone, *told}), told_by_group=None)


def run_steps(world: World) -> Iterator[World]:
    """What `run` may do next."""
    run = world.run
    if run.ended or run.stopped:
        return
    if run.sending:
        any_order = len(run.sending) if run.sending[0][0] != KILL else 1
        for at, (signum, kind, number) in enumerate(run.sending[:any_order]):
            rest = world.change_run(sending=run.sending[:at] + run.sending[at + 1 :])
            yield rest.send_target(kind, number, signum, RUN)
        return
    if run.told_by_group is not None:
        yield send_again(world, *run.told_by_group)
        return
    mine = children(world)
    if not mine:
        yield world.change_run(ended=True, pending=(), due=None, grace_runs=False)
        return
    if any(node.state == ZOMBIE for _, node in mine):
        yield reap(world)
    if run.due is not None:
        kills_soon = run.setup.kills_soon
        yield serve(world, run.due).change_run(due=None, grace_runs=kills_soon, killing=run.due == KILL)
        return
    if run.looks and not run.killing and run.setup.stop_with is not None:
        yield serve_newcomers(world, run.setup.stop_with)
    if run.grace_runs:
        yield send_all(world, KILL).change_run(grace_runs=False, killing=True)
    if run.killing and run.kill_again:
        yield send_all(world, KILL).change_run(kill_again=False)
    if run.pending:
        taken = min(run.pending)
        at = run.pending.index(taken)
        pending = run.pending[:at] + run.pending[at + 1 :]
        yield send_all(world, taken).change_run(pending=pending, kill_again=run.killing)


def reap(world: World) -> World:
    """Reap all zombies. Contract, "Exit code" and "When a process ends"."""
    run, setup = world.run, world.run.setup
    for number, node in children(world):
        if node.state == ZOMBIE:
            world = world.put(number, node.gone())
            daemonizes = node.session == number and any(n.session == number and n.lives for _, n in children(world))
            spared = setup.daemon and node.code == 0 and (number == 0 or daemonizes)
            begins = setup.stop_with is not None and not run.stopping and not spared
            run = run._replace(
                code=max(run.code, node.code),
                reaped=tuple(sorted((*run.reaped, (number if node.said else NOBODY, node.code)))),
                stopping=run.stopping or begins,
                looks=run.looks or run.stopping,
                due=setup.stop_with if begins else run.due,
                kill_again=run.killing,
            )
    return world._replace(run=run)


def act(world: World) -> World:
    """The test does the next thing from outside."""
    (verb, *words), rest = world.outside[0], world._replace(outside=world.outside[1:])
    if verb == "tell":
        number, order = words
        node = world.nodes[number]
        alive = node is not None and node.lives
        return rest.change(number, orders=(*world.node(number).orders, order)) if alive else rest
    kind, number, signum = words
    return rest.send_target(kind, number, signum, OUTSIDE)


def successors(world: World) -> Iterator[World]:
    """All that may come next."""
    if world.outside:
        yield act(world)
    for number in world.living():
        yield from world.node_steps(number)
    yield from run_steps(world)


@lru_cache(maxsize=2000)
def outcomes(world: World) -> tuple[World, ...]:
    """The worlds in which nothing moves any more, whatever the order. Raises TooManyWaysError."""
    seen, ahead, settled = {world}, [world], []
    while ahead:
        following = list(successors(here := ahead.pop()))
        if not following:
            settled.append(here)
        for there in following:
            if there not in seen:
                seen.add(there)
                ahead.append(there)
        if len(seen) > MOST_WORLDS:
            raise TooManyWaysError
    return tuple(settled)


def after(world: World, deeds: tuple[Words, ...]) -> tuple[World, ...]:
    """Where these deeds of the test may lead to from a world that was at rest."""
    nodes = tuple(node and node._replace(got=()) for node in world.nodes)
    return outcomes(World(world.run._replace(reaped=()), nodes, deeds))


class View(NamedTuple):
    """What can be seen of a world: compared with what is seen in reality."""

    tree: tuple[tuple[str, ...], ...]
    got: tuple[tuple[int, tuple[tuple[int, int], ...]], ...]
    reaped: tuple[str, ...]
    run_stopped: bool
    stopping: bool
    ended: int | None


def view(world: World, senders: dict[int, int]) -> View:
    """What can be seen of this world, where a sender of a signal has this pid."""
    run = world.run
    tree = []
    for number, node in world.there():
        state = "Z" if node.state == ZOMBIE else "T" if node.stopped else "S"
        name = str(number) if node.said else "?"
        tree.append((name, state, *(label(world, n) for n in (node.parent, node.group, node.session))))
    got = [(i, node.got) for i, node in enumerate(world.nodes) if node is not None and node.got]
    return View(
        tree=tuple(sorted(tree)),
        got=tuple((i, tuple((signum, senders[sender]) for signum, sender in events)) for i, events in got),
        reaped=tuple(sorted(f"{'?' if i == NOBODY else i}: {code}" for i, code in run.reaped)),
        run_stopped=run.stopped and not run.ended,
        stopping=run.stopping,
        ended=run.code if run.ended else None,
    )


def label(world: World, number: int) -> str:
    """How a node is called in a view: one that never said who it is has no name."""
    if number == RUN:
        return "run"
    return str(number) if world.node(number).said else "?"
