"""The messenger: signals on their way to services, and to what belongs to none of them.

Source: contract, "A service's life" and "Control".
"""

import os

from run import _kernel, children
from run.children import Delivery, Queued
from run.log import Log
from run.recipients import Served
from run.services.keeper import KILL_ALL, STOP_ALL
from run.services.life import Life
from run.services.manager import Manager
from run.signals import CONT, KILL, describe


class Messenger:
    """Sends signals, and says what it has sent."""

    def __init__(self, manager: Manager, log: Log) -> None:
        """Take what is needed."""
        self._manager = manager
        self._log = log
        self._served = Served()

    def stop(self, life: Life, signum: int, to_group: bool) -> None:
        """Send a service its stop signal, or KILL; to its process group, or to its main process alone."""
        if life.service.daemon:  # the keeper passes it on to the groups of its children
            delivery = Delivery(KILL_ALL if signum == KILL else STOP_ALL).to([life.pid])
            if signum == KILL:
                Delivery(CONT).to([life.pid])  # for it may have been stopped
        else:
            delivery = Delivery(signum).to([-life.pid if to_group else life.pid])
        self._tell(signum, life.title, delivery)

    def forward(self, signum: int, sender: int, queued: Queued | None) -> None:
        """Pass a signal on to each main process that catches it."""
        reached = []
        for life in self._manager.lives.values():
            if life.has_main:
                catching = [pid for pid in _main_processes(life) if children.catches(pid, signum)]
                if catching and Delivery(signum, queued=queued).to(catching).reached:
                    reached.append(life.title)
        origin = f" from pid {sender}" if sender else ""
        whom = ", ".join(reached) or "nobody, since no service catches it"
        self._log.info(f"forwarding {describe(signum)}{origin} to {whom}")

    def order(self, name: str, signum: int) -> str:
        """Send a service's main process a signal, since somebody has asked for it; return why that failed."""
        delivery = Delivery(signum).to(_main_processes(self._manager.lives[name]))
        if delivery.refused:
            return next(iter(delivery.refused))
        return "" if delivery.reached else "it has ended"

    def stop_rest(self, signum: int, now: float) -> None:
        """Send a signal to what belongs to no service: each time to those who have not got it; KILL to all."""
        before = _kernel.cpu_time()
        try:
            found = children.find_recipients()
        except MemoryError:
            found = None
        if found is None:
            everybody = [children.EVERY_PROCESS] if os.getpid() == 1 else []
            self._tell(signum, "all processes", Delivery(signum).to(everybody))
            return
        whom = found if signum == KILL else children.newcomers(found, self._served)
        delivery = Delivery(signum).to_all(whom)
        self._manager.rest_told(now, _kernel.cpu_time() - before)
        self._tell(signum, delivery.reached, delivery)

    def ended(self, pid: int) -> None:
        """A process that belongs to no service has ended: its number may mean another one from now on."""
        self._served.ended(pid)

    def _tell(self, signum: int, whom: object, delivery: Delivery) -> None:
        if self._log.shows_info and delivery.reached:
            self._log.info(f"sending {describe(signum)} to {whom}")
        for reason, who in delivery.refused.items():
            self._log.warn(f"cannot send {describe(delivery.signum)} to {who}: {reason}")


def _main_processes(life: Life) -> list[int]:
    """Whom a signal to the main process goes to: of a service that has a keeper, that one's children."""
    return children.of(life.pid) if life.service.daemon else [life.pid]
