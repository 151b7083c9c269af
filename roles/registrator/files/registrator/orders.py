# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Orders of an operator: drain, undrain and adopt."""

from __future__ import annotations

import time

from registrator.control import Request
from registrator.dockerapi import DockerDown
from registrator.inbox import Item
from registrator.journal import log
from registrator.model import Facts
from registrator.plan import Actual, Plan
from registrator.reconciler import Reconciler
from registrator.world import Unknown


class Orders:
    """Carries out orders by a comparison, and answers them."""

    def __init__(self, reconciler: Reconciler) -> None:
        self.reconciler = reconciler
        self.world = reconciler.world
        self.observer = reconciler.observer

    def handle(self, requests: list[Request], items: list[Item], full: bool, deep: bool) -> None:
        """Compare once; this also carries out the orders, which get their answers."""
        taken: list[tuple[Request, Facts | None, str]] = []
        for request in requests:
            try:
                taken.append((request, *self._take(request)))
            except (Unknown, DockerDown, OSError) as error:
                request.answer(False, str(error))
        adopt = any(request.order == "adopt" for request, _facts, _text in taken)
        full = full or adopt or self.reconciler.catalogue.actual is None or not self.observer.up
        todo = self.reconciler.reconcile(full, deep, items, adopt)
        for request, facts, text in taken:
            request.answer(*self._answer(request, facts, text, todo))

    # -- taking --------------------------------------------------------------------------------------------------------

    def _take(self, request: Request) -> tuple[Facts | None, str]:
        """Note one order, so that the comparison carries it out.

        Returns:
            The container, if it runs, and what the answer says of it.
        """
        if request.order == "adopt":
            return None, "what another registrator left behind is removed"
        drains = self.world.drains
        facts = self._running(request)
        before = dict(drains.held)
        if request.order == "drain" and facts is not None:
            drains.hold(facts, time.time())
            name, text = facts.name, "is out of service"
        else:
            held = self._held(request, facts)
            name, text = drains.held[held].name, "is in service"
            facts = self.world.facts.get(held)
            drains.forget(held)
        try:
            # Before it is acted on: it must outlive a restart of registrator and of the host.
            self.observer.keep_drained()
        except OSError:
            drains.held = before
            raise
        log("info", request.order + "ed", container=facts.short_id if facts else "", name=name)
        return facts, f"container {name} {text}"

    def _running(self, request: Request) -> Facts | None:
        """Return the running container of an order; None when one to undrain does not run."""
        try:
            return self.world.find(request.container)
        except Unknown:
            if request.order != "drain":
                return None
        # It may have been started a moment ago.
        self.observer.look_at_all(deep=False, wait=True)
        return self.world.find(request.container)

    def _held(self, request: Request, facts: Facts | None) -> str:
        """Return the id of the drained container of an order."""
        drains = self.world.drains
        found = [facts.id] if facts is not None and facts.id in drains.held else drains.find_held(request.container)
        if len(found) != 1:
            which = "several drained containers have" if found else "no drained container has"
            raise Unknown(f"{which} the name or id {request.container}")
        return found[0]

    # -- answering -----------------------------------------------------------------------------------------------------

    def _answer(self, request: Request, facts: Facts | None, text: str, todo: Plan | None) -> tuple[bool, str]:
        """Return whether an order was carried out, and what happened."""
        actual = self.reconciler.catalogue.actual
        if todo is None or actual is None:
            down = self.reconciler.health.down.get("consul", "")
            return False, f"{text}, as soon as the Consul agent answers: {down}"
        if request.order == "adopt":
            return self._adopted(todo, actual)
        outcome = self.world.outcome(facts, time.time()) if facts else None
        ids = [item.id for item in outcome.registrations] if outcome else []
        failed = [service_id for service_id in ids if actual.is_marked(service_id) is (request.order == "drain")]
        if failed:
            return False, f"{text}, but Consul refused {', '.join(failed)}; see `journalctl -u registrator`"
        return True, f"{text}: {', '.join(ids) or 'it has no service'}"

    def _adopted(self, todo: Plan, actual: Actual) -> tuple[bool, str]:
        failed = [service_id for service_id in todo.adopted if service_id in actual.services]
        unknown = ", ".join(sorted(container[:12] for container in self.observer.unknown()))
        if not self.observer.up:
            down = self.reconciler.health.down.get("docker", "")
            return False, f"nothing was removed, because Docker does not answer: {down}"
        if unknown:
            reason = f"because Docker gives no answer about {unknown}: see `docker inspect`"
            return False, f"nothing was removed, {reason}"
        if failed:
            return False, f"Consul did not let go of {', '.join(failed)}; see `journalctl -u registrator`"
        return True, "\n".join(["removed " + service_id for service_id in todo.adopted] or ["nothing was left behind"])
