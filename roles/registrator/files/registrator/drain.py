# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers that stay out of the catalogue though they run: told to stop, or taken out by an operator. Pure: the clock is an argument."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from registrator.model import Facts

# `docker stop -t` is not part of the event, so a container may well stop later than its own time-out says.
MINIMUM = 60.0


@dataclass(frozen=True)
class Held:
    """A container that an operator took out, and when, in seconds since the epoch."""

    name: str
    since: float


class Drains:
    """Which runs of which containers are on their way out, and which containers are held out by hand.

    A run is a container id with its start time: the next start ends it. What is held stays so until it is released or removed.
    """

    def __init__(self, seconds: float = MINIMUM) -> None:
        self.seconds = seconds
        self.held: dict[str, Held] = {}
        self._until: dict[str, tuple[float, float]] = {}

    def on_signal(self, facts: Facts, number: int, sent_at: float, now: float) -> bool:
        """Note a signal that was sent to the container; True when it means that the container is to end."""
        if number not in (facts.stop_signal, int(signal.SIGKILL)):
            return False
        if sent_at and facts.started_at and sent_at < facts.started_at:
            return False
        self._until[facts.id] = (facts.started_at, now + max(self.seconds, facts.stop_timeout + 5.0))
        return True

    def hold(self, facts: Facts, now: float) -> None:
        """Take a container out by hand."""
        self.held.setdefault(facts.id, Held(facts.name, now))

    def find_held(self, wanted: str) -> list[str]:
        """The ids of the held containers that a name, an id or the beginning of an id means."""
        by_name = [container for container, held in self.held.items() if held.name == wanted]
        return by_name or [container for container in self.held if wanted and container.startswith(wanted)]

    def forget(self, container: str) -> bool:
        """A container is no more, or is released; True when it was held."""
        return self.held.pop(container, None) is not None

    def is_draining(self, facts: Facts, now: float) -> bool:
        """Whether this run of the container has to stay out of the catalogue."""
        entry = self._until.get(facts.id)
        return facts.id in self.held or (entry is not None and entry[0] == facts.started_at and now < entry[1])

    def prune(self, running: Mapping[str, Facts], now: float) -> list[str]:
        """Forget ended runs; returns the containers that survived their stop signal and are to come back."""
        back: list[str] = []
        for container in list(self._until):
            facts = running.get(container)
            if facts is None or facts.started_at != self._until[container][0]:
                del self._until[container]
            elif now >= self._until[container][1]:
                del self._until[container]
                back.append(container)
        return back

    def next_end(self) -> float | None:
        """When the first one is due to come back."""
        return min((until for _start, until in self._until.values()), default=None)

    def dump(self) -> dict[str, Any]:
        """The runs that end, for the file that lasts until the next boot."""
        return {container: list(entry) for container, entry in self._until.items()}

    def load(self, data: Any) -> None:
        """From that file; anything unreadable is left out."""
        if isinstance(data, dict):
            for container, entry in data.items():
                if isinstance(entry, list) and len(entry) == 2 and all(isinstance(item, (int, float)) for item in entry):
                    self._until[str(container)] = (float(entry[0]), float(entry[1]))

    def dump_held(self) -> dict[str, Any]:
        """What is held, for the file that outlives a boot."""
        return {container: {"name": held.name, "since": held.since} for container, held in self.held.items()}

    def load_held(self, data: Any) -> None:
        """From that file; anything unreadable is left out."""
        if isinstance(data, dict):
            for container, entry in data.items():
                if isinstance(entry, dict) and isinstance(entry.get("name"), str) and isinstance(entry.get("since"), (int, float)):
                    self.held[str(container)] = Held(entry["name"], float(entry["since"]))
