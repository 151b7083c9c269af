# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What registrator reports: log lines, gauges, systemd's status line, and the files under /run."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from registrator import state
from registrator.catalogue import Catalogue
from registrator.health import Health
from registrator.journal import Once
from registrator.metrics import Metrics
from registrator.model import Refusal, Registration
from registrator.notify import notify
from registrator.observer import Observer


class Publisher:
    """Publishes what is known after each comparison, and reads what an earlier run wrote."""

    def __init__(self, observer: Observer, catalogue: Catalogue, health: Health, metrics: Metrics, once: Once) -> None:
        self.config = observer.config
        self.world = observer.world
        self.observer = observer
        self.catalogue = catalogue
        self.health = health
        self.metrics = metrics
        self.once = once
        # When containers and catalogue were last compared completely; 0 before that.
        self.last_sync = 0.0
        self._written: dict[str, Any] = {}

    def report(self, refused: list[tuple[str, Refusal]]) -> None:
        """Log refusals and warnings, each of them once."""
        for container, refusal in refused:
            facts = self.world.facts.get(container)
            about = {"name": facts.name if facts else "", "key": refusal.key, "kind": refusal.kind}
            if self.once.say("warning", container, "refused", refusal.reason, **about):
                self.metrics.add("refused_total")
        for facts in self.world.facts.values():
            for warning in self.world.outcome(facts, time.time()).warnings:
                about = {"name": facts.name, "key": warning.key, "kind": warning.kind}
                self.once.say("warning", facts.id, "warning", warning.reason, **about)
        self.metrics.set("refused", len(refused))

    def publish(self, desired: Mapping[str, Registration] | None = None) -> None:
        """Write gauges, systemd's status line, and the files under /run."""
        world, metrics = self.world, self.metrics
        metrics.set("containers", len(world.facts))
        metrics.set("draining", len(world.drains.dump()))
        metrics.set("drained", len(world.drains.held))
        metrics.set("unanswered", len(self.observer.unanswered))
        metrics.set("docker_up", self.observer.up)
        metrics.set("consul_up", "consul" not in self.health.down)
        self._write(state.STATUS, self._status())
        if desired is not None and self.observer.up:
            self._write(state.STATE, self._state(desired))

    def _status(self) -> dict[str, Any]:
        facts, held, down = self.world.facts, self.world.drains.held, self.health.down
        return {
            "pid": os.getpid(),
            "synced": bool(self.last_sync) and not down,
            "down": dict(sorted(down.items())),
            "containers": len(facts),
            "services": int(self.metrics.get("services")),
            "refused": int(self.metrics.get("refused")),
            "drained": sorted(facts[key].name if key in facts else one.name for key, one in held.items()),
            "unanswered": self.observer.unanswered_names(),
            "last_sync": self.last_sync,
        }

    def _state(self, desired: Mapping[str, Registration]) -> dict[str, Any]:
        services = {}
        for registration in desired.values():
            facts = self.world.facts[registration.container]
            services[registration.id] = [facts.pid, self.world.tokens.get(facts.id, "")]
        known = self.catalogue.credentials.items()
        credentials = {key: credential for key, credential in known if credential and key in services}
        return {"services": services, "draining": self.world.drains.dump(), "credentials": credentials}

    def _write(self, name: str, data: dict[str, Any]) -> None:
        if self._written.get(name) == data:
            return
        try:
            state.write(self.config.state_directory, name, data)
            self._written[name] = data
        except OSError as error:
            self.once.say("error", "", "state-not-written", str(error))
        if name == state.STATUS:
            down = ", ".join(f"{what} does not answer" for what in data["down"])
            counts = f"{data['containers']} containers, {data['services']} services"
            notify(f"STATUS={counts}{'; ' + down if down else ''}")

    def load(self) -> None:
        """Read what the earlier run left. After a reboot it left nothing, and then nothing is vouched for."""
        data = state.read(self.config.state_directory, state.STATE)
        drains = self.world.drains
        drains.load(data.get("draining"))
        drains.load_held(state.read(self.config.data_directory, state.DRAINED))
        credentials = data.get("credentials")
        if isinstance(credentials, dict):
            texts = {str(key): text for key, text in credentials.items() if isinstance(text, str)}
            self.catalogue.credentials = texts
        services = data.get("services")
        for service_id, entry in services.items() if isinstance(services, dict) else ():
            if isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], int) and isinstance(entry[1], str):
                self.observer.protected[service_id] = (entry[0], entry[1])
