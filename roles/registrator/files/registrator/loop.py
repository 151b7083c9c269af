# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The loop: wait for a reason to look again, and compare. Events only say where to look first."""

from __future__ import annotations

import threading
import time

from registrator import state
from registrator.config import Config
from registrator.control import Request, listen
from registrator.follow import Followers
from registrator.inbox import Item
from registrator.inspector import Answer
from registrator.journal import log
from registrator.metrics import serve
from registrator.notify import notify, watchdog_seconds
from registrator.orders import Orders
from registrator.reconciler import Reconciler
from registrator.world import Event

IDLE_SECONDS = 10.0


class Loop:
    """Runs until it is stopped. Neither Docker's nor the agent's absence ends it."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.reconciler = Reconciler(config)
        self.inbox = self.reconciler.inbox
        self.orders = Orders(self.reconciler)
        self.stopping = threading.Event()
        self.followers = Followers(config, self.inbox, self.reconciler.metrics, self.stopping)

    def stop(self) -> None:
        """End the loop soon; what is registered stays, as the containers do."""
        self.stopping.set()
        self.inbox.put(Event("stop"))

    def run(self) -> int:
        """Run until stopped; return the exit status."""
        try:
            state.lock(self.config.state_directory)
        except state.AlreadyRuns:
            log("error", "already-runs", directory=self.config.state_directory)
            return 1
        except OSError as error:
            log("error", "not-locked", reason=str(error))
            return 1
        self._begin()
        config, observer = self.config, self.reconciler.observer
        log("info", "started", hostname=config.hostname, address=config.address, consul=config.consul_url)
        pause = min(IDLE_SECONDS, watchdog_seconds() or IDLE_SECONDS)
        while not self.stopping.is_set():
            self.reconciler.health.beat()
            alive = observer.inspector.is_alive() and self.followers.are_alive()
            # The followers end as soon as the loop is asked to stop, which may be now.
            if not alive and not self.stopping.is_set():
                log("error", "thread-died")
                return 1
            batch = self._wait(pause)
            if self.stopping.is_set():
                break
            self._take(batch)
        log("info", "stopped")
        notify("STOPPING=1")
        return 0

    def _begin(self) -> None:
        """Read what the earlier run left, and begin to listen."""
        config, reconciler = self.config, self.reconciler
        reconciler.publisher.load()
        reconciler.publisher.publish()
        if config.metrics_port:
            try:
                serve(reconciler.metrics, config.metrics_port)
            except OSError as error:
                log("error", "metrics-off", port=config.metrics_port, reason=str(error))
        try:
            listen(config.state_directory, config.docker_socket, self.inbox.put)
        except OSError as error:
            log("error", "control-off", reason=str(error))
        self.followers.start()
        reconciler.health.expect_ready()

    def _wait(self, pause: float) -> list[Item]:
        """Wait for a reason to look again, and return all that arrived meanwhile."""
        reconciler, observer = self.reconciler, self.reconciler.observer
        observer.ask_due()
        now = time.monotonic()
        seconds = (
            pause,
            reconciler.next_full - now,
            observer.next_due() - now,
            reconciler.health.seconds_to_ready(),
            reconciler.world.next_change() - time.time(),
        )
        return self.inbox.wait(min(seconds))

    def _take(self, batch: list[Item]) -> None:
        """Compare, if what arrived or the time asks for it."""
        reconciler = self.reconciler
        requests = [item for item in batch if isinstance(item, Request)]
        events = [item for item in batch if isinstance(item, Event)]
        # An event without a container is a reason to look at all of them; after a new connection even at those whose
        # line in the list is the same.
        full = any(not event.container for event in events) or time.monotonic() >= reconciler.next_full
        deep = any(event.kind == "connected" for event in events)
        only_answers = all(isinstance(item, Answer) for item in batch)
        if batch and not (full or reconciler.observer.up) and only_answers:
            # What failed together with Docker; the next look asks for it again.
            reconciler.observer.receive(batch)
        elif full or batch or time.time() >= reconciler.world.next_change():
            self.orders.handle(requests, batch, full, deep)
