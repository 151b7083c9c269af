# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guard against losing most services at once."""

from __future__ import annotations

import time
from collections.abc import Callable

from . import staged
from . import state as states
from .answering import answering
from .edge import Edge
from .errors import ApplyError
from .render import Wanted
from .report import backends, dropped_too_many

# A loss is complete when nothing has come for so long, or at the latest after so long.
SETTLE_SECONDS, SETTLE_LONGEST_SECONDS = 0.5, 3.0


class Guard:
    """Finds out what a change would lose, and refuses it when that is too much.

    Args:
        edge: the edge.
        before_news: called before the guard waits for what is staged next.
    """

    def __init__(self, edge: Edge, before_news: Callable[[], None]) -> None:
        self.edge = edge
        self.before_news = before_news
        # The services that are neither in the catalogue nor answer any more.
        self.ended: set[str] = set()

    def served_before(self) -> set[str]:
        """Return the services that must not vanish. What was served before the host started may have ended with it."""
        if not self.edge.start.booting:
            return self.edge.trees.services(self.edge.state["live"])
        self.edge.state["seen"] = {}
        return set()

    def wait_until_settled(self, before: set[str], confirmed: bool) -> tuple[Wanted, set[str]]:
        """Return what is staged and its services. Wait for a loss to end, so that all of it can be checked.

        consul-template passes on each answer of Consul as it comes, and a catalogue that melts away would arrive in
        pieces that are each small enough. What has really ended is released at once, and what is new, or changed
        without a loss, never waits."""
        config = self.edge.config
        deadline = time.monotonic() + SETTLE_LONGEST_SECONDS
        source = staged.source(config)
        while True:
            wanted = staged.parse(config, source)
            services = source.services()
            too_few = len(before) < config.shrink_min_services
            if confirmed or too_few or not self._still_answering(before - services) or time.monotonic() >= deadline:
                return wanted, services
            self.before_news()
            time.sleep(SETTLE_SECONDS)
            source, last = staged.source(config), source
            if source == last:
                return wanted, services

    def _still_answering(self, lost: set[str]) -> set[str]:
        """Return those of the lost services of which an instance answers, or may answer.

        A service that has ended in this run stays so: another one may answer at the same port later."""
        asked = lost - self.ended
        if not asked:
            return set()
        known = {}
        for side, text in self.edge.trees.staged(self.edge.state["live"]).items():
            known.update(backends(side, text))
        there = answering(place for name in asked for place in known.get(name, ()))
        self.ended |= {name for name in asked if known.get(name) and not known[name] & there}
        return asked - self.ended

    def check(self, before: set[str], services: set[str], confirmed: bool) -> None:
        """Refuse to lose most services at once. A service that has ended is no loss: to keep it would help no one."""
        edge, state = self.edge, self.edge.state
        lost = self._largest_loss(before, services)
        if lost is None:
            if state["refused"] is not None:
                state["refused"], edge.state_changed = None, True
            return
        if confirmed:
            state["seen"] = {}
            return
        count, gone = lost
        since = (state["refused"] or {}).get("since", round(time.time(), 3))
        refused = {"since": since, "services_before": count, "gone": gone[:200], "gone_count": len(gone)}
        state["refused"], edge.state_changed = refused, True
        names = ", ".join(gone[:5]) + (", ..." if len(gone) > 5 else "")
        advice = "if that is right: nginx-edge-apply --confirm-shrink"
        raise ApplyError("guard", f"{len(gone)} of {count} services would vanish at once ({names}); {advice}")

    def _largest_loss(self, before: set[str], services: set[str]) -> tuple[int, list[str]] | None:
        """Return how many services there were, and which of them would be lost; None when that is allowed."""
        config, state, ended = self.edge.config, self.edge.state, self.ended - services
        state["seen"] = {name: span for name, span in state["seen"].items() if name not in ended}
        found: tuple[int, list[str]] | None = None
        # A change that loses nothing need not be checked, whatever was lost before it and allowed then.
        for moment in states.moments(state, before, time.time(), config.shrink_window) if before - services else ():
            there = moment - ended
            gone = dropped_too_many(there, services, config.shrink_limit_percent, config.shrink_min_services)
            if gone and (found is None or len(gone) > len(found[1])):
                found = len(there), gone
        return found
