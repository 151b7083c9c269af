# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Desired registrations against what the agent holds -> the calls to make. Pure."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from registrator.model import MARK, Facts, Outcome, Refusal, Registration, Verdict
from registrator.reasons import refusal

# registrator's own form of a service id: host:container:port, with :udp behind it for that protocol.
_FORM = re.compile(r"(?P<host>[^:]+):(?P<rest>[A-Za-z0-9][A-Za-z0-9_.-]*:[0-9]{1,5}(:udp)?)")


@dataclass
class Actual:
    """What the agent holds: its services by id, and its checks by id."""

    services: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    checks: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def is_marked(self, service_id: str) -> bool:
        """Whether the service is there and carries the engine's mark."""
        service = self.services.get(service_id)
        return service is not None and MARK in (service.get("Meta") or {})

    def owner(self, check_id: str) -> str | None:
        """Return the id of the service to which a check belongs, empty for the node's own; None when there is none."""
        check = self.checks.get(check_id)
        return None if check is None else str(check.get("ServiceID") or "")

    def is_foreign(self, registration: Registration) -> bool:
        """Return whether another program holds an id of the service or its checks, in any case of letters."""
        ids = {registration.id.lower()}
        checks = {check_id.lower() for check_id in registration.check_ids()}
        owners = {key for key in self.services if key.lower() in ids}
        owners |= {self.owner(key) or "" for key in self.checks if key.lower() in checks}
        return any(not self.is_marked(owner) for owner in owners)

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
    verdicts: list[tuple[Registration, Verdict]] = field(default_factory=list)
    refusals: list[tuple[str, Refusal]] = field(default_factory=list)
    taken_over: list[str] = field(default_factory=list)
    adopted: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.register or self.deregister or self.verdicts)


def merge(outcomes: Iterable[tuple[Facts, Outcome]]) -> tuple[dict[str, Registration], list[tuple[str, Refusal]]]:
    """All registrations by id. Of two containers that claim one id, of a service or of a check, the elder keeps it."""
    desired: dict[str, Registration] = {}
    # The agent has one check of each id, and the catalogue does not distinguish upper and lower case: whoever comes
    # last would take the other's place.
    taken: dict[str, Registration] = {}
    refused: list[tuple[str, Refusal]] = []
    for facts, outcome in sorted(outcomes, key=lambda item: (item[0].created, item[0].id)):
        for registration in outcome.registrations:
            ids = ["id " + registration.id.lower(), *(check_id.lower() for check_id in registration.check_ids())]
            other = next((taken[key] for key in ids if key in taken), None)
            if other is None:
                desired[registration.id] = registration
                taken.update(dict.fromkeys(ids, registration))
            else:
                kind = "id-twice" if other.container == facts.id else "id-taken"
                refused.append((facts.id, refusal(kind, "id", text=repr(registration.id), other=other.container[:12])))
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
        and bool(held.get("EnableTagOverride")) == registration.tag_override
        and (registration.tag_override or list(held.get("Tags") or ()) == list(registration.tags))
        and dict(held.get("Meta") or {}) == registration.full_meta()
        and weights.get("Passing", 1) == registration.weight_passing
        and weights.get("Warning", 1) == registration.weight_warning
        and all(actual.owner(check_id) == registration.id for check_id in registration.check_ids())
    )


def orphans(desired: Mapping[str, Registration], actual: Actual, hostname: str) -> list[str]:
    """What another registrator of this host left behind: unmarked ids of its form that begin with this host's name and that nothing desires,
    and, when it went by another name, its second entries for what is desired: the same container, port of the container and port of the host.
    """
    endpoints = {(item.id.partition(":")[2], item.port): item.address for item in desired.values() if item.default_id}
    found = []
    for service_id, held in actual.services.items():
        form = _FORM.fullmatch(service_id)
        if form is None or service_id in desired or MARK in (held.get("Meta") or {}):
            continue
        address = endpoints.get((form["rest"], held.get("Port") or 0))
        # Without -ip it announces a loopback address or none; any other address may be another host that uses this agent.
        same = address is not None and ((held.get("Address") or "") in ("", address) or str(held.get("Address")).startswith("127."))
        if form["host"] == hostname or same:
            found.append(service_id)
    return found


def plan(
    desired: Mapping[str, Registration],
    actual: Actual,
    hostname: str,
    adopt: bool = False,
    protected: Iterable[str] = (),
    outdated: Container[str] = (),
) -> Plan:
    """The difference. ``protected`` ids stay even though nothing desires them (their container is known to live).

    ``outdated`` ids are written again though they are equal: the agent keeps each with the token that it was written with, which is another one now.
    """
    result = Plan()
    kept: set[str] = set(protected)
    if adopt:
        result.adopted = [service_id for service_id in orphans(desired, actual, hostname) if service_id not in kept]

    for service_id in actual.services:
        if service_id not in desired and service_id not in kept and actual.is_marked(service_id):
            result.deregister.append(service_id)
    result.deregister += result.adopted

    for service_id, registration in desired.items():
        if not registration.default_id and actual.is_foreign(registration):
            result.refusals.append((registration.container, refusal("id-foreign", "id", text=repr(service_id))))
            continue
        if service_id in actual.services and not actual.is_marked(service_id):
            result.taken_over.append(service_id)
        if service_id in outdated or not equal(registration, actual):
            result.register.append(registration)
        # The agent keeps the status of a check that it had before, also when the service is registered anew.
        for verdict in registration.verdicts:
            known = actual.checks.get(verdict.check_id)
            if known is not None and known.get("Status") != verdict.status:
                result.verdicts.append((registration, verdict))
    return result
