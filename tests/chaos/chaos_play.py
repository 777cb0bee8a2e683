"""A play of the chaos tests: after each deed on the stage, all that can be seen is compared with the model."""

import signal
from pathlib import Path

from chaos_model import View, after, beginning, view
from chaos_node import RUN, Words
from chaos_stage import ENDED, Stage, told
from chaos_world import Setup
from harness import Starter


class Play(Stage):
    """A stage, and the worlds of the model in which it may be by now."""

    def __init__(self, start: Starter, puppet: Path, setup: Setup) -> None:
        """Start `run`, and see that all is as it should be then."""
        super().__init__(start, puppet, setup)
        self.worlds = [beginning(setup)]
        self._log_read = 0
        self.do(())

    def do(self, deeds: tuple[Words, ...]) -> None:
        """Do all this without waiting in between, then wait for peace, and compare."""
        deeds = tuple(deed for deed in deeds if self._can_do(deed))
        expected = {world: None for before in self.worlds for world in after(before, deeds)}
        self.got = {}
        self.story.append("; ".join(map(told, deeds)) or "start")
        self._log_read = len(self.started.log())
        for deed in deeds:
            self._do(deed)
        self.wait_for_peace()
        seen = self._view()
        self.worlds = [world for world in expected if view(world, self.inner_pids) == seen]
        if not self.worlds:
            foreseen = "\n  or ".join(str(view(world, self.inner_pids)) for world in list(expected)[:8])
            raise self.failure(f"the model foresees\n     {foreseen}\nbut there is\n     {seen}")

    def finish(self, kill: bool) -> None:
        """End all puppets one after the other, by KILL or by telling them to exit: then `run` ends, too."""
        while not (world := self.worlds[0]).run.ended:
            if world.run.stopped:
                self.do((("signal", "run", RUN, signal.SIGCONT),))
                continue
            number = world.living()[0]
            by_signal = kill or world.node(number).stopped
            self.do((("signal", "node", number, signal.SIGKILL) if by_signal else ("tell", number, ("exit", number)),))

    # -- Doing --------------------------------------------------------------------------------------------------------

    def _can_do(self, deed: Words) -> bool:
        """Whether the pids that are needed have ever been said."""
        verb, *words = deed
        if verb == "tell":
            number, (order, *values) = words
            needed = [number, *(values[:1] if order == "setpgid" else values[1:2] if order == "kill" else [])]
        else:
            needed = [words[1]]
        return all(number in self.inner_pids for number in needed)

    def _do(self, deed: Words) -> None:
        verb, *words = deed
        if verb == "tell":
            self.tell(*words)
            return
        kind, number, signum = words
        pid = self.run_pid if number == RUN else self.pids[number]
        if kind != "group":
            if pid in self.seen:  # else its pid may be another process's by now
                self.signal(pid, signum)
        elif any(seen.group == pid for seen in self.seen.values()):
            self.signal(-pid, signum)

    # -- Seeing -------------------------------------------------------------------------------------------------------

    def moves(self) -> bool:
        """Whether anybody is about to do something: one that has not yet said who it is will say so."""
        known = {*self.pids.values(), self.run_pid}
        if super().moves() or any(seen.state != "Z" and pid not in known for pid, seen in self.seen.items()):
            return True
        return self.setup.kills_soon and "] shutdown" in self.started.log()

    def _view(self) -> View:
        log = self.started.log()
        ended = ENDED.findall(log, self._log_read)
        names = {pid: str(number) for number, pid in self.pids.items()}
        inner = {str(pid): str(number) for number, pid in self.inner_pids.items() if number >= 0}
        run = self.seen.get(self.run_pid)
        if run:
            names |= {self.run_pid: "run", run.group: "run", run.session: "run"}
        tree = []
        for pid, seen in self.seen.items():
            if pid != self.run_pid:
                relations = [names.get(other, "?") for other in (seen.parent, seen.group, seen.session)]
                tree.append((names.get(pid, "?"), seen.state, *relations))
        return View(
            tree=tuple(sorted(tree)),
            got=tuple((number, tuple(events)) for number, events in sorted(self.got.items())),
            reaped=tuple(
                sorted(f"{inner.get(pid, '?')}: {code or 128 + int(killed_by)}" for pid, code, killed_by in ended)
            ),
            run_stopped=run is not None and run.state == "T",
            stopping="] shutdown" in log,
            ended=self.started.process.poll(),
        )
