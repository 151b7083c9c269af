# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Desired registrations against what the agent holds -> the calls to make. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from registrator.model import MARK, Facts, Outcome, Refusal, Registration


@dataclass
class Actual:
    """What the agent holds: its services by id, and its checks by id."""

    services: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    checks: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def is_marked(self, service_id: str) -> bool:
        """Whether the service is there and carries the engine's mark."""
        service = self.services.get(service_id)
        return service is not None and MARK in (service.get("Meta") or {})

    def record(self, registration: Registration) -> None:
        """Note a registration that was just made, in the form the agent would give it back."""
        body = registration.payload()
        body["Service"] = body.pop("Name")
        self.services[registration.id] = body
        for check in registration.checks:
            known = self.checks.get(str(check["CheckID"]))
            # The agent keeps the status of a check that it already had.
            status = (known or {}).get("Status") or check.get("Status") or "critical"
            self.checks[str(check["CheckID"])] = {"Status": status, "ServiceID": registration.id}

    def forget(self, service_id: str) -> None:
        """Note a deregistration that was just made."""
        self.services.pop(service_id, None)
        for check_id in [key for key, check in self.checks.items() if check.get("ServiceID") == service_id]:
            del self.checks[check_id]


@dataclass
class Plan:
    """The calls that make the agent equal to the desired state."""

    register: list[Registration] = field(default_factory=list)
    deregister: list[str] = field(default_factory=list)
    health: list[Registration] = field(default_factory=list)
    refusals: list[tuple[str, Refusal]] = field(default_factory=list)
    taken_over: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.register or self.deregister or self.health)


def merge(outcomes: Iterable[tuple[Facts, Outcome]]) -> tuple[dict[str, Registration], list[tuple[str, Refusal]]]:
    """All registrations by id. Of two containers that claim one id the elder keeps it."""
    desired: dict[str, Registration] = {}
    refused: list[tuple[str, Refusal]] = []
    for facts, outcome in sorted(outcomes, key=lambda item: (item[0].created, item[0].id)):
        for registration in outcome.registrations:
            other = desired.get(registration.id)
            if other is None:
                desired[registration.id] = registration
            else:
                refused.append((facts.id, Refusal("id", f"the id {registration.id!r} is already used by container {other.container[:12]}")))
    return desired, refused


def equal(registration: Registration, actual: Actual) -> bool:
    """Whether the agent already holds exactly this registration."""
    held = actual.services.get(registration.id)
    if held is None:
        return False
    weights = held.get("Weights") or {}
    return (
        held.get("Service") == registration.name
        and (held.get("Address") or "") == registration.address
        and held.get("Port") == registration.port
        and list(held.get("Tags") or ()) == list(registration.tags)
        and dict(held.get("Meta") or {}) == registration.full_meta()
        and weights.get("Passing", 1) == registration.weight_passing
        and weights.get("Warning", 1) == registration.weight_warning
        and all(check_id in actual.checks for check_id in registration.check_ids())
    )


def plan(desired: Mapping[str, Registration], actual: Actual, hostname: str, adopt: bool = False, protected: Iterable[str] = ()) -> Plan:
    """The difference. ``protected`` ids stay even though nothing desires them (their container is known to live)."""
    result = Plan()
    kept: set[str] = set(protected)
    orphan = re.compile(rf"^{re.escape(hostname)}:[A-Za-z0-9][A-Za-z0-9_.-]*:[0-9]{{1,5}}(:udp)?$")

    for service_id, held in actual.services.items():
        if service_id in desired or service_id in kept:
            continue
        marked = MARK in (held.get("Meta") or {})
        if marked or (adopt and orphan.match(service_id)):
            result.deregister.append(service_id)

    for service_id, registration in desired.items():
        if service_id in actual.services and not actual.is_marked(service_id):
            if not registration.default_id:
                result.refusals.append((registration.container, Refusal("id", f"the id {service_id!r} belongs to a registration of somebody else")))
                continue
            result.taken_over.append(service_id)
        if not equal(registration, actual):
            result.register.append(registration)
            # The agent keeps the status of a check it had before, so a changed verdict is written after it.
            known = actual.checks.get(registration.health_check_id)
            if known is not None and known.get("Status") != registration.health:
                result.health.append(registration)
        elif registration.health_check_id and actual.checks[registration.health_check_id].get("Status") != registration.health:
            result.health.append(registration)
    return result
