# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One comparison of what should be registered with what is."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from registrator.backoff import BACKOFF, delay
from registrator.catalogue import Catalogue
from registrator.config import Config
from registrator.consulapi import ConsulDown, ConsulRefused
from registrator.dockerapi import DockerDown
from registrator.health import Health
from registrator.inbox import Inbox, Item
from registrator.journal import Once
from registrator.metrics import Metrics
from registrator.model import Registration
from registrator.observer import DOCKER_DOWN_SECONDS, Observer
from registrator.plan import Plan, plan
from registrator.publish import Publisher
from registrator.world import World


class Reconciler:
    """Compares the containers with the catalogue, and says when to do so again."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.metrics = Metrics()
        self.world = World(config)
        self.inbox = Inbox()
        self.health = Health()
        once = Once()
        self.observer = Observer(config, self.world, self.inbox, self.metrics, once, self.health.beat)
        self.catalogue = Catalogue(config, self.metrics, once, self.health.beat, self._look_again)
        self.publisher = Publisher(self.observer, self.catalogue, self.health, self.metrics, once)
        # When to compare everything again, on the monotonic clock.
        self.next_full = 0.0
        self._failures = 0

    def reconcile(self, full: bool, deep: bool, items: Iterable[Item], adopt: bool = False) -> Plan | None:
        """Compare once and write the differences; what fails is tried again by a later comparison.

        Returns:
            What was to be done; None when the agent did not answer.
        """
        begun = time.monotonic()
        self.observer.receive(items)
        if full:
            self._look_at_all(deep, adopt)
        # Before the agent is asked: what is due by time must not stay due while the agent is down.
        desired, refused = self.world.desired(time.time())
        try:
            todo, complete = self._write(desired, full, adopt)
        except (ConsulDown, ConsulRefused, ValueError) as error:
            # What the agent holds now is not known any more.
            self.catalogue.actual = None
            self.metrics.add("consul_errors_total")
            self.health.set_down("consul", str(error))
            # It is asked often: meanwhile, the catalogue of before leads to other containers.
            self._retry(BACKOFF[-1])
            self.publisher.publish()
            return None
        self.publisher.report(refused + todo.refusals)
        if full and complete and self.observer.up:
            self._note_sync(begun)
        self._schedule(full, complete)
        self.metrics.set("services", len(desired))
        self.publisher.publish(desired)
        return todo

    def _look_at_all(self, deep: bool, adopt: bool) -> None:
        """Look at all containers; without Docker, at the processes of those that are known."""
        try:
            # After a new connection, and before anything of others is removed, nothing may be missing.
            self.observer.look_at_all(deep, wait=deep or adopt)
            self._set_up("docker")
        except DockerDown as error:
            self.metrics.add("docker_errors_total")
            self.health.set_down("docker", str(error))
            self.observer.look_at_processes()

    def _write(self, desired: Mapping[str, Registration], full: bool, adopt: bool) -> tuple[Plan, bool]:
        """Write the differences; return them, and whether nothing is left to be done."""
        observer, catalogue = self.observer, self.catalogue
        if full or catalogue.actual is None:
            catalogue.actual = catalogue.consul.actual()
        actual = catalogue.actual
        # What others registered is removed only while it is known which containers run.
        adopt = (self.config.adopt or adopt) and observer.up and not observer.unknown()
        outdated = catalogue.outdated(desired) if full else ()
        todo = plan(desired, actual, self.config.hostname, adopt, observer.vouched(), outdated)
        complete = catalogue.apply(todo, actual)
        self.health.cleared = not any(service_id in actual.services for service_id in todo.deregister)
        self._set_up("consul")
        return todo, complete

    def _note_sync(self, begun: float) -> None:
        now = self.publisher.last_sync = time.time()
        self.metrics.add("syncs_total")
        self.metrics.set("last_sync_timestamp_seconds", now)
        self.metrics.set("last_sync_duration_seconds", time.monotonic() - begun)

    # -- when to compare again -----------------------------------------------------------------------------------------

    def _look_again(self) -> None:
        self.next_full = 0.0

    def _set_up(self, what: str) -> None:
        if self.health.set_up(what):
            self._failures = 0

    def _schedule(self, full: bool, complete: bool) -> None:
        if not self.observer.up:
            self.next_full = time.monotonic() + DOCKER_DOWN_SECONDS
        elif not complete:
            self._retry(self.config.resync_seconds)
        elif full:
            self._failures = 0
            self.next_full = time.monotonic() + self.config.resync_seconds

    def _retry(self, longest: float) -> None:
        """Compare again soon; after many failures in a row, after the longest time."""
        # A refusal that stays (a missing right, for example) is tried again and again, but less and less often.
        seconds = longest if self._failures >= 3 * len(BACKOFF) else delay(self._failures)
        self._failures += 1
        now = time.monotonic()
        self.next_full = min(self.next_full if self.next_full > now else float("inf"), now + seconds)
