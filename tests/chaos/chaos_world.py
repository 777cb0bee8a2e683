"""The world of the chaos tests: processes, and what the kernel makes of orders and signals. No system call in here.

A World is immutable. What `run` does in it is said in chaos_model.py.

Sources: signal(7), setpgid(2), setsid(2), exit_group(2), wait(2), prctl(2), and kernel/exit.c for stopped processes
whose group becomes orphaned.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from chaos_node import (
    CATCH,
    CHLD,
    CONT,
    FIRST_REAL_TIME,
    GONE,
    HUP,
    IGNORE,
    KERNEL,
    KILL,
    NOT_FORWARDED,
    OUTSIDE,
    RUN,
    STOP,
    STOPS,
    TERMINAL_STOPS,
    ZOMBIE,
    Node,
    Words,
)


class Setup(NamedTuple):
    """How `run` is started."""

    pid_1: bool = False
    stop_with: int | None = None
    daemon: bool = False
    grace: float | None = None

    @property
    def kills_soon(self) -> bool:
        """Whether the KILL of -t comes before the test ends."""
        return self.stop_with is not None and self.grace is not None and self.grace < 1


class Run(NamedTuple):
    """`run`: what it has been sent, whom it is sending what, and what it has made of those that ended.

    Of those that it sends a signal by their groups it remembers which groups they were in, and which other groups do
    not get it as such; and of the signal of -s who has got it, so that who comes later does, too.
    """

    setup: Setup
    pending: tuple[int, ...] = ()
    stopped: bool = False
    sending: tuple[tuple[int, str, int], ...] = ()
    told_by_group: tuple[int, tuple[tuple[int, int], ...], tuple[int, ...]] | None = None
    main_lives: bool = True
    code: int = 0
    due: int | None = None
    stopping: bool = False
    looks: bool = False
    served: tuple[int, ...] = ()
    served_groups: tuple[int, ...] = ()
    grace_runs: bool = False
    killing: bool = False
    kill_again: bool = False
    reaped: tuple[tuple[int, int], ...] = ()
    ended: bool = False


class World(NamedTuple):
    """All of it, with what the test is about to do to it."""

    run: Run
    nodes: tuple[Node | None, ...]
    outside: tuple[Words, ...] = ()

    # -- Small changes ------------------------------------------------------------------------------------------------

    def put(self, number: int, node: Node) -> "World":
        """The world with another node at this place."""
        return self._replace(nodes=(*self.nodes[:number], node, *self.nodes[number + 1 :]))

    def change(self, number: int, **fields: Any) -> "World":
        """The world with a node that is different in this."""
        return self.put(number, self.node(number)._replace(**fields))

    def change_run(self, **fields: Any) -> "World":
        """The world with a `run` that is different in this."""
        return self._replace(run=self.run._replace(**fields))

    def node(self, number: int) -> Node:
        """A node that has been born."""
        node = self.nodes[number]
        assert node is not None
        return node

    def there(self) -> list[tuple[int, Node]]:
        """All that are not yet reaped, and their numbers."""
        return [(i, node) for i, node in enumerate(self.nodes) if node is not None and node.state != GONE]

    def living(self) -> list[int]:
        """The numbers of all that live."""
        return [i for i, node in self.there() if node.lives]

    def members(self, group: int) -> list[int]:
        """The numbers of those in a process group."""
        return [i for i, node in self.there() if node.group == group]

    # -- Signals ------------------------------------------------------------------------------------------------------

    def send(self, number: int, signum: int, sender: int) -> "World":
        """A signal for a node: kill(2)."""
        node = self.nodes[number]
        if node is None or not node.lives:
            return self
        pending = node.pending
        if signum == CONT:
            node = node._replace(stopped=False)
            pending = tuple(p for p in pending if p[0] not in STOPS)
        elif signum in STOPS:
            pending = tuple(p for p in pending if p[0] != CONT)
        coalesced = signum < FIRST_REAL_TIME and signum in [p[0] for p in pending]
        if not coalesced and not node.ignores(signum):
            pending = tuple(sorted((*pending, (signum, sender)), key=lambda p: p[0]))
        return self.put(number, node._replace(pending=pending))

    def send_run(self, signum: int, sender: int) -> "World":
        """A signal for `run`: it blocks them all, and PID 1 is immune against what its own namespace cannot block."""
        run = self.run
        if run.ended or (signum == STOP and run.setup.pid_1 and sender != OUTSIDE):
            return self
        if signum == KILL:
            assert run.setup.pid_1, "only a namespace ends with its PID 1"
            return self if sender != OUTSIDE else self._end_of_the_world()
        if signum == STOP:
            return self.change_run(stopped=True)
        world = self.change_run(stopped=False) if signum == CONT else self
        if signum in NOT_FORWARDED or (signum < FIRST_REAL_TIME and signum in run.pending):
            return world
        return world.change_run(pending=(*run.pending, signum))

    def _end_of_the_world(self) -> "World":
        nodes = tuple(node and node.gone() for node in self.nodes)
        return World(self.run._replace(ended=True, code=-KILL), nodes)

    def send_group(self, group: int, signum: int, sender: int) -> "World":
        """A signal for a process group."""
        world = self.send_run(signum, sender) if group == RUN else self
        for number in self.members(group):
            world = world.send(number, signum, sender)
        return world

    def send_target(self, kind: str, number: int, signum: int, sender: int) -> "World":
        """A signal for a node, a group or `run`."""
        if kind == "run":
            return self.send_run(signum, sender)
        return (self.send_group if kind == "group" else self.send)(number, signum, sender)

    # -- What one process does ----------------------------------------------------------------------------------------

    def node_steps(self, number: int) -> Iterator["World"]:
        """What a node may do next."""
        node = self.node(number)
        signums = [p[0] for p in node.pending]
        if KILL in signums:
            yield self.die(number, 128 + KILL)
        if node.stopped:
            return
        fatal = [s for s in signums if s != KILL and node.leaving is None and node.dies_of(s)]
        for signum in fatal:  # the first to come is not always the first to be taken
            yield self.die(number, 128 + signum)
        if KILL in signums:
            return
        if node.leaving is not None:
            yield self.die(number, node.leaving)
        elif signums:
            if min(signums) not in fatal:
                taken = node.pending[signums.index(min(signums))]
                yield self.deliver(number, taken)
                if not node.said:  # what comes while it is being forked has no sender: copy_process() in kernel/fork.c
                    yield self.deliver(number, taken, KERNEL)
        elif node.orders:
            rest = self.change(number, orders=node.orders[1:])
            yield rest.execute(number, node.orders[0])

    def deliver(self, number: int, taken: tuple[int, int], sender: int | None = None) -> "World":
        """A node takes a signal that does not end it by itself, maybe with another sender than the real one."""
        node = self.node(number)
        at = node.pending.index(taken)
        node = node._replace(pending=node.pending[:at] + node.pending[at + 1 :])
        signum = taken[0]
        action = node.action(signum)
        if action is None:
            if signum == STOP or (signum in TERMINAL_STOPS and not self.orphaned(node.group)):
                node = node._replace(stopped=True)
        elif action != IGNORE:
            node = node._replace(
                got=(*node.got, (signum, taken[1] if sender is None else sender)),
                leaving=None if action == CATCH else action,
            )
        return self.put(number, node)

    def execute(self, number: int, order: Words) -> "World":
        """A node does what it was told."""
        node, (verb, *words) = self.node(number), order
        if verb == "exit":
            return self.die(number, words[0])
        if verb == "kill":
            kind, target, signum = words
            return self.send_target(kind, target, signum, number)
        if verb == "fork":
            return self.put(words[0], Node(number, node.group, node.session, actions=node.actions))
        if verb == "reap":
            mine = [i for i, n in self.there() if n.parent == number and n.state == ZOMBIE]
            return self._replace(nodes=tuple(n.gone() if n and i in mine else n for i, n in enumerate(self.nodes)))
        if verb == "setsid":
            node = node if self.members(number) else node._replace(session=number, group=number)
        elif verb == "setpgid":
            node = node._replace(group=words[0]) if self._may_join(number, words[0]) else node
        elif verb == "up":
            node = node._replace(said=True)
        elif verb == "subreaper":
            node = node._replace(subreaper=True)
        else:
            assert verb == "action"
            actions = {**dict(node.actions), words[0]: words[1]}
            node = node._replace(actions=tuple(sorted((s, a) for s, a in actions.items() if a is not None)))
        return self.put(number, node)

    def _may_join(self, number: int, group: int) -> bool:
        node = self.node(number)
        exists = any(self.node(i).session == node.session for i in self.members(group))
        exists = exists or group == number or (group == RUN and node.session == RUN and not self.run.setup.pid_1)
        return exists and node.session != number

    # -- The end of a process -----------------------------------------------------------------------------------------

    def die(self, number: int, code: int) -> "World":
        """A node ends: its children get another parent, and its own one is told."""
        world = self
        heir = self._subreaper_above(number)
        for child, node in self.there():
            if node.parent == number:
                dissolved = node.state == ZOMBIE and heir != RUN and self.node(heir).action(CHLD) == IGNORE
                world = world.put(child, node.gone() if dissolved else node._replace(parent=heir))
                if not dissolved:
                    world = world._hang_up(child, self.node(number), None)
        node = world.node(number)
        above = None if node.parent == RUN else world.node(node.parent)
        world = world._hang_up(number, above, number)
        dissolved = above is not None and above.action(CHLD) == IGNORE
        zombie = Node(node.parent, node.group, node.session, ZOMBIE, said=node.said, code=code, got=node.got)
        return world.put(number, node.gone() if dissolved else zombie)

    def _subreaper_above(self, number: int) -> int:
        above = self.node(number).parent
        while above != RUN and not self.node(above).subreaper:
            above = self.node(above).parent
        return above

    def orphaned(self, group: int, ignored: int | None = None) -> bool:
        """Whether no member has its parent in another group of the same session: setpgid(2)."""
        if group == RUN:
            return False
        for number in self.members(group):
            node = self.node(number)
            if number != ignored and node.lives:
                above = None if node.parent == RUN else self.node(node.parent)
                parents = (RUN, RUN) if above is None else (above.group, above.session)
                if parents[0] != group and parents[1] == node.session:
                    return False
        return True

    def _hang_up(self, number: int, above: Node | None, ignored: int | None) -> "World":
        """HUP and CONT for a group with stopped members that has just become orphaned: kill_orphaned_pgrp()."""
        node = self.node(number)
        group, session = (RUN, RUN) if above is None else (above.group, above.session)
        if group == node.group or session != node.session or not self.orphaned(node.group, ignored):
            return self
        if not any(self.node(i).stopped for i in self.members(node.group)):
            return self
        return self.send_group(node.group, HUP, KERNEL).send_group(node.group, CONT, KERNEL)
