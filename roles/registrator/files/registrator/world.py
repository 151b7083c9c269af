# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the engine knows of the containers, and what its events mean. No thread and no socket in here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from registrator.config import Config
from registrator.convention import registrations_of
from registrator.drain import Drains
from registrator.model import Facts, Outcome, Refusal, Registration
from registrator.plan import merge
from registrator.reasons import refusal


class Unknown(Exception):
    """No container, or more than one, goes by that name; the message says which."""


class Event:
    """A reason to look again: at one container, or at everything."""

    def __init__(self, kind: str, container: str = "", number: int = 0, sent_at: float = 0.0) -> None:
        self.kind = kind
        self.container = container
        self.number = number
        self.sent_at = sent_at


def event_of(document: Mapping[str, Any]) -> Event | None:
    """One of Docker's events as a reason to look again."""
    actor = document.get("Actor") or {}
    attributes = actor.get("Attributes") or {}
    action = str(document.get("Action") or document.get("status") or "").split(":", 1)[0]
    sent_at = float(document.get("timeNano") or 0) / 1e9 or float(document.get("time") or 0)
    container = str(attributes.get("container") or "") if document.get("Type") == "network" else str(actor.get("ID") or document.get("id") or "")
    if not container:
        return None
    number = str(attributes.get("signal") or "")
    return Event(action, container, int(number) if number.isdecimal() else 0, sent_at)


class World:
    """The running containers as last seen, and what they lead to."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.settings = config.settings()
        self.drains = Drains(config.drain_seconds)
        self.facts: dict[str, Facts] = {}
        self.outcomes: dict[str, Outcome] = {}
        self.tokens: dict[str, str] = {}
        self.seen: dict[str, tuple[Any, ...]] = {}

    def put(self, facts: Facts, token: str = "") -> None:
        """Take over one container's facts; one that does not run is forgotten."""
        if not facts.running:
            self.drop(facts.id)
            return
        if self.facts.get(facts.id) != facts:
            self.facts[facts.id] = facts
            self._forget_outcome(facts.id)
        self.tokens[facts.id] = token

    def drop(self, container: str) -> None:
        """Forget one container."""
        if self.facts.pop(container, None) is not None:
            self._forget_outcome(container)
        self.tokens.pop(container, None)
        self.seen.pop(container, None)

    def _forget_outcome(self, container: str) -> None:
        self.outcomes.pop(container, None)
        # What shares this container's network depends on it.
        for facts in self.facts.values():
            if facts.network_owner and (facts.network_owner == container or container.startswith(facts.network_owner)):
                self.outcomes.pop(facts.id, None)

    def find(self, wanted: str) -> Facts:
        """The running container that a name, an id or the beginning of an id means.

        Raises:
            Unknown: there is none, or there are several.
        """
        by_name = [facts for facts in self.facts.values() if facts.name == wanted]
        found = by_name or [facts for facts in self.facts.values() if wanted and facts.id.startswith(wanted)]
        if len(found) == 1:
            return found[0]
        if found:
            raise Unknown(f"several containers have an id that begins with {wanted}")
        raise Unknown(f"there is no running container {wanted}")

    def _owner(self, facts: Facts) -> Facts | None:
        return self.facts.get(facts.network_owner) if facts.network_owner else None

    def is_draining(self, facts: Facts, now: float) -> bool:
        """Whether a container stays out though it runs: told to stop, held by hand, or its ports are published by one that is."""
        owner = self._owner(facts)
        return self.drains.is_draining(facts, now) or (owner is not None and self.drains.is_draining(owner, now))

    def outcome(self, facts: Facts, now: float) -> Outcome:
        """What one container leads to, draining left aside."""
        found = self.outcomes.get(facts.id)
        if found is None or now >= found.until:
            try:
                found = registrations_of(facts, self.settings, self._owner(facts), now)
            except Exception as error:
                # A mistake in here that one container brings to light must not stop the registration of all others.
                found = Outcome(refusals=(refusal("engine", "*", error=f"{type(error).__name__}: {error}"),))
            self.outcomes[facts.id] = found
        return found

    def next_change(self) -> float:
        """When something changes by the mere passing of time, in seconds since the epoch."""
        ends = [outcome.until for outcome in self.outcomes.values()]
        back = self.drains.next_end()
        return min(ends if back is None else [*ends, back], default=math.inf)

    def desired(self, now: float) -> tuple[dict[str, Registration], list[tuple[str, Refusal]]]:
        """All registrations that should stand, and what is refused."""
        self.drains.prune(self.facts, now)
        outcomes = [(facts, self.outcome(facts, now)) for facts in self.facts.values()]
        merged, refused = merge((facts, outcome) for facts, outcome in outcomes if not self.is_draining(facts, now))
        for facts, outcome in outcomes:
            refused.extend((facts.id, refusal) for refusal in outcome.refusals)
        return merged, refused
