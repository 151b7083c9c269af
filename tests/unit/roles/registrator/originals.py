# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The form in which registrations of the engine and of the originals are compared, field by field. Pure."""

from __future__ import annotations

import re
import typing as t
from collections.abc import Iterable, Mapping, Sequence

from registrator.convention import registrations_of
from registrator.facts import facts_of
from registrator.model import Facts, Registration, Settings
from registrator.plan import merge

HOSTNAME = "vm"
ADDRESS = "192.0.2.2"

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_DURATIONS = ("Interval", "Timeout", "TTL", "DeregisterCriticalServiceAfter")
_Check = Mapping[str, t.Any]
_ARGUMENTS = {"Args": "ScriptArgs"}
_EMPTY: dict[str, t.Any] = {"tags": [], "meta": {}, "weight": 1, "override": False, "checks": []}


class Mode(t.NamedTuple):
    """One way to run a registrator."""

    arguments: tuple[str, ...] = ()
    internal: bool = False
    explicit: bool = False
    tags: tuple[str, ...] = ()


MODES = {
    "default": Mode(),
    "internal": Mode(("-internal",), internal=True),
    "explicit": Mode(("-explicit",), explicit=True),
    "tags": Mode(("-tags", "one,two"), tags=("one", "two")),
}


def settings_of(mode: str) -> Settings:
    """Return the engine's settings that are equal to the originals' options."""
    chosen = MODES[mode]
    return Settings(
        hostname=HOSTNAME,
        address=ADDRESS,
        internal=chosen.internal,
        explicit=chosen.explicit,
        allow_scripts=True,
        tags=chosen.tags,
    )


def seconds(value: t.Any) -> t.Any:
    """Return a duration as seconds, whether Consul's nanoseconds or Go's text; anything else as it is."""
    if isinstance(value, (int, float)):
        return float(value) / 1e9
    parts = re.findall(r"([0-9.]+)(ns|us|ms|h|m|s)", str(value))
    return sum(float(number) * _UNITS[unit] for number, unit in parts) if parts else value


def check_of(definition: Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Return a check's definition without what is empty, in Consul's own spelling."""
    found: dict[str, t.Any] = {}
    for key, value in definition.items():
        name = _ARGUMENTS.get(key, key)
        if name in _DURATIONS:
            value = seconds(value) if value else None
        if value and name not in ("Type", "Status"):
            found[name] = value
    return found


class Service(t.NamedTuple):
    """One registration."""

    id: str
    name: str
    address: str
    port: int
    tags: tuple[str, ...]
    meta: dict[str, str]
    weight: int
    override: bool
    checks: tuple[dict[str, t.Any], ...]

    @classmethod
    def of_agent(cls, held: Mapping[str, t.Any], checks: Iterable[Mapping[str, t.Any]]) -> Service:
        """Return what an agent holds."""
        return cls(
            id=held["ID"],
            name=held["Service"],
            address=held.get("Address") or "",
            port=held.get("Port") or 0,
            tags=tuple(held.get("Tags") or ()),
            meta=dict(held.get("Meta") or {}),
            weight=(held.get("Weights") or {}).get("Passing", 1),
            override=bool(held.get("EnableTagOverride")),
            checks=_ordered(check_of(check) for check in checks),
        )

    @classmethod
    def of_registration(cls, item: Registration) -> Service:
        """Return what the engine would register."""
        return cls(
            id=item.id,
            name=item.name,
            address=item.address,
            port=item.port,
            tags=item.tags,
            meta=item.full_meta(),
            weight=item.weight_passing,
            override=bool(item.payload().get("EnableTagOverride")),
            checks=_ordered(check_of(check) for check in item.checks),
        )

    @classmethod
    def of_data(cls, data: Mapping[str, t.Any]) -> Service:
        """Return what ``as_data`` wrote."""
        full = {**_EMPTY, **data}
        return cls(**{**full, "tags": tuple(full["tags"]), "checks": tuple(full["checks"])})

    def as_data(self) -> dict[str, t.Any]:
        """Return it for a file, without what is empty."""
        data = {**self._asdict(), "tags": list(self.tags), "checks": list(self.checks)}
        return {key: value for key, value in data.items() if key not in _EMPTY or value != _EMPTY[key]}


def _ordered(checks: Iterable[dict[str, t.Any]]) -> tuple[dict[str, t.Any], ...]:
    return tuple(sorted(checks, key=lambda check: str(check.get("CheckID"))))


class Record:
    """One container of the data file: its document, and what each original registers of it in each mode."""

    def __init__(self, data: Mapping[str, t.Any]) -> None:
        self.name: str = data["name"]
        self.options: str = data["options"]
        self.image: str = data["image"]
        self.then: list[str] = data["then"]
        self.document: dict[str, t.Any] = data["document"]
        self._originals: dict[str, dict[str, list[t.Any]]] = data["originals"]

    def theirs(self, side: str, mode: str) -> list[Service]:
        """Return what an original registers."""
        modes = self._originals.get(side) or self._originals["gliderlabs"]
        return [Service.of_data(item) for item in modes.get(mode, modes["default"])]

    @staticmethod
    def slim(results: Mapping[str, Mapping[str, t.Any]]) -> dict[str, dict[str, t.Any]]:
        """Leave out what ``theirs`` finds elsewhere: the fork where it is equal, modes that change nothing."""
        slim: dict[str, dict[str, t.Any]] = {}
        for side, modes in results.items():
            changed = {mode: found for mode, found in modes.items() if found != modes["default"]}
            slim[side] = {"default": modes["default"], **changed}
        return {side: modes for side, modes in slim.items() if side == "gliderlabs" or modes != slim["gliderlabs"]}


def registered(document: Mapping[str, t.Any], mode: str, owner: Facts | None) -> list[Service]:
    """Return what the convention makes of a container."""
    facts = facts_of(document)
    outcome = registrations_of(facts, settings_of(mode), owner if facts.network_owner else None)
    desired, _refused = merge([(facts, outcome)])
    return [Service.of_registration(desired[key]) for key in sorted(desired)]


class Difference(t.NamedTuple):
    """One field that is not equal; ``field`` is ``registered`` for a service that only one side has."""

    service: str
    field: str
    ours: t.Any
    theirs: t.Any


def differences(ours: Sequence[Service], theirs: Sequence[Service]) -> list[Difference]:
    """Compare two sets of registrations field by field."""
    found = []
    mine, others = {item.id: item for item in ours}, {item.id: item for item in theirs}
    for key in sorted({*mine, *others}):
        if key not in mine or key not in others:
            found.append(Difference(key, "registered", mine.get(key), others.get(key)))
            continue
        a, b = mine[key], others[key]
        for field in ("name", "address", "port", "tags", "weight", "override"):
            if getattr(a, field) != getattr(b, field):
                found.append(Difference(key, field, getattr(a, field), getattr(b, field)))
        for name in sorted({*a.meta, *b.meta}):
            if a.meta.get(name) != b.meta.get(name):
                found.append(Difference(key, f"meta.{name}", a.meta.get(name), b.meta.get(name)))
        mine_checks, other_checks = ({str(check["CheckID"]): check for check in item.checks} for item in (a, b))
        for check in sorted({*mine_checks, *other_checks}):
            found += _check_differences(key, mine_checks.get(check), other_checks.get(check))
    return found


def _check_differences(service: str, ours: _Check | None, theirs: _Check | None) -> list[Difference]:
    if ours is None or theirs is None:
        return [Difference(service, "check", ours, theirs)]
    names = [name for name in sorted({*ours, *theirs}) if ours.get(name) != theirs.get(name)]
    return [Difference(service, f"check.{name}", ours.get(name), theirs.get(name)) for name in names]
