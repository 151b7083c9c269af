# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``SERVICE_*`` labels and environment -> the attributes of each port. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from registrator.model import Facts, Refusal
from registrator.reasons import refusal
from registrator.secrecy import shown

_PREFIX = "SERVICE_"
PROTOCOLS = ("tcp", "udp", "sctp")

# Attributes that have a meaning of their own; every other one is meta data.
OWN = ("name", "tags", "id", "ignore", "warmup", "weight", "address", "enable_tag_override", "version")

_PORT = re.compile(r"[1-9][0-9]{0,4}")
# What begins with a number and has only digits, signs and a protocol up to the first underscore was meant as a port.
_LIKE_PORT = re.compile(r"-?[0-9]+([^a-z0-9_]([0-9]+|tcp|udp|sctp)?)*")

# Almost the beginning of a check's name (CHECKS_HTTP, CHEK_HTTP, HEALTHCHECK_HTTP), and almost a port's (8080-NAME).
_ALMOST_CHECK = re.compile(
    r"(?:health[_-]?)?(?:check|chek|chk|chck|cheeck|chekc)s?[_-]?"
    r"((?:http|https|tcp|ttl|grpc|cmd|script|interval|timeout)(?:_.*)?)"
)
_ALMOST_PORT = re.compile(r"[0-9][0-9a-z./-]{0,20}[_.-]?(name|tags|id|ignore|warmup|weight|check_.+)")

_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ns|us|µs|ms|s|m|h)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_OFF = ("", "0", "false", "no", "off")

# More was never written by hand, and would cost all other containers time.
MOST_LABELS = 2000

# Ten years; Consul's own limit is not much higher, and beyond it it refuses the whole registration.
LONGEST_SECONDS = 87600 * 3600.0


@dataclass(frozen=True)
class Key:
    """What the name of a label or variable means: an attribute of every port, of some ports, or of one port."""

    name: str
    low: int = 0
    high: int = 0
    protocol: str = ""

    @property
    def is_exact(self) -> bool:
        """Return whether it names exactly one port."""
        return self.low != 0 and self.high == 0

    def rank(self, port: int, protocol: str) -> int:
        """Return how exactly it names the port: 0 not at all, 1 as every other, up to 5 by number and protocol."""
        if self.protocol not in ("", protocol):
            return 0
        if not self.low:
            return 1
        if not self.low <= port <= (self.high or self.low):
            return 0
        return (2 if self.high else 4) + bool(self.protocol)

    @property
    def where(self) -> str:
        """Return the part of the name in front of the attribute: ``9300-9400_tcp``."""
        ports = f"{self.low}-{self.high}" if self.high else str(self.low)
        return ports + (f"_{self.protocol}" if self.protocol else "")


@dataclass(frozen=True)
class Entry:
    """One label or variable of the convention."""

    key: Key
    value: str
    is_label: bool


@dataclass
class Notices:
    """Collects what is refused and what is questioned."""

    refusals: list[Refusal] = field(default_factory=list)
    warnings: list[Refusal] = field(default_factory=list)

    def refuse(self, kind: str, key: str, **values: object) -> None:
        """Add a refusal."""
        self.refusals.append(refusal(kind, key, **values))

    def warn(self, kind: str, key: str, **values: object) -> None:
        """Add a warning."""
        self.warnings.append(refusal(kind, key, **values))


@dataclass(frozen=True)
class Attributes:
    """The attributes of one port: their values, how exactly each names the port, and which came from a label."""

    values: Mapping[str, str]
    ranks: Mapping[str, int]
    labels: frozenset[str]

    def get(self, name: str) -> str:
        """Return the value without blanks around it; empty when it is not given."""
        return self.values.get(name, "").strip()

    def is_set(self, name: str) -> bool:
        """Return whether a switch is on: any value but an empty one, ``false``, ``no``, ``off`` and ``0``."""
        return not is_off(self.get(name))

    def is_special(self, name: str) -> bool:
        """Return whether the attribute was given for this port, or for a range with it, and not for every port."""
        return self.ranks.get(name, 0) > 1


def _range(text: str) -> tuple[int, int] | None:
    """Return the port or range that a text names, ``(80, 0)`` or ``(9300, 9400)``; None when it is neither."""
    low, dash, high = text.partition("-")
    if not _PORT.fullmatch(low) or (dash and not _PORT.fullmatch(high)):
        return None
    numbers = int(low), int(high) if dash else 0
    if numbers[0] > 65535 or numbers[1] > 65535 or (dash and numbers[1] < numbers[0]):
        return None
    return numbers


def read_key(key: str) -> Key | None:
    """Return what a name means; None for one that does not begin with ``SERVICE_``.

    ``SERVICE_80_NAME``, ``SERVICE_53_UDP_NAME`` and ``SERVICE_9300-9400_NAME`` name ports. Raises:
        ValueError: its number is not that of a port.
    """
    if not key.startswith(_PREFIX):
        return None
    name = key[len(_PREFIX) :].lower()
    head, _underscore, rest = name.partition("_")
    if not rest or not head.isascii() or not _LIKE_PORT.fullmatch(head):
        return Key(name)
    ports = _range(head)
    if ports is None:
        raise ValueError(head)
    protocol, _underscore, attribute = rest.partition("_")
    if protocol in PROTOCOLS and attribute:
        return Key(attribute, *ports, protocol)
    return Key(rest, *ports)


def entries_of(facts: Facts, notices: Notices) -> list[Entry]:
    """Return all that labels and environment say, with what of it has no readable name put into ``notices``."""
    entries: list[Entry] = []
    sources = [
        ({text: value for text, value in source.items() if text.strip().upper().startswith(_PREFIX)}, is_label)
        for source, is_label in ((facts.env, False), (facts.labels, True))
    ]
    if sum(len(source) for source, _is_label in sources) > MOST_LABELS:
        # A part of them might leave out the check, or that the port is to be ignored.
        notices.refuse("label-count", "*", most=MOST_LABELS)
        return []
    for source, is_label in sources:
        first: dict[Key, tuple[str, str]] = {}
        # Upper case sorts first, so the proper spelling wins over others.
        for text, value in sorted(source.items()):
            try:
                key = read_key(text)
            except ValueError as error:
                notices.refuse("port-number", text[len(_PREFIX) :].lower(), port=shown(str(error)))
                continue
            if key is None:
                _warn_of_case(text, notices)
                continue
            other = first.setdefault(key, (text, value))
            if other[0] != text:
                if other[1] != value:
                    notices.refuse("same-key", key.name, text=shown(text), other=other[0][:140])
                continue
            _warn_of_typo(key, notices)
            entries.append(Entry(key, value, is_label))
    return entries


def _warn_of_case(text: str, notices: Notices) -> None:
    """Warn of a name such as ``service_name``, which nothing reads."""
    right = text.strip().upper()
    try:
        key = read_key(right)
    except ValueError:
        return
    if key and (key.name in OWN or key.name.startswith(("check_", "edge_"))):
        notices.warn("prefix-case", key.name, text=shown(text), right=shown(right))


def _warn_of_typo(key: Key, notices: Notices) -> None:
    """Warn of a name that is almost one with a meaning, such as ``SERVICE_TAG``, or has its protocol in front."""
    protocol, _underscore, rest = key.name.partition("_")
    if protocol in PROTOCOLS and not key.low:
        last = rest.partition("_")[2] if rest.partition("_")[0].isdecimal() else rest
        if last in OWN or last.startswith("check_"):
            notices.warn("protocol-place", key.name, protocol=protocol.upper(), name=last.upper()[:60])
    elif key.name not in OWN and not key.name.startswith("check_"):
        near_check = _ALMOST_CHECK.fullmatch(key.name)
        near_port = _ALMOST_PORT.fullmatch(key.name)
        alike = [own for own in OWN if abs(len(own) - len(key.name)) <= 2]
        near = difflib.get_close_matches(key.name, alike, 1, 0.85)
        right = f"check_{near_check[1]}" if near_check else f"<port>_{near_port[1]}" if near_port else "".join(near)
        if right:
            notices.warn("typo", key.name, text=shown(_PREFIX + key.name.upper()), right=right[:60].upper())


def attributes_of(entries: Iterable[Entry], port: int, protocol: str) -> Attributes:
    """Return the attributes for one port. What names the port most exactly wins; then a label wins over a variable."""
    best: dict[str, tuple[int, bool, str]] = {}
    for entry in entries:
        rank = entry.key.rank(port, protocol)
        if rank and (rank, entry.is_label) > best.get(entry.key.name, (0, False, ""))[:2]:
            best[entry.key.name] = (rank, entry.is_label, entry.value)
    return Attributes(
        {name: value for name, (_rank, _label, value) in best.items()},
        {name: rank for name, (rank, _label, _value) in best.items()},
        frozenset(name for name, (_rank, is_label, _value) in best.items() if is_label),
    )


def unquoted(attributes: Attributes, notices: Notices) -> Attributes:
    """Return the attributes without the quotes that a list in a Compose file keeps around a value.

    Meta data of the user's own keeps them: there they may be wanted.
    """
    values = dict(attributes.values)
    for name, value in values.items():
        if name not in OWN and not name.startswith(("check_", "edge_")):
            continue
        bare = without_quotes(value)
        if bare != value.strip():
            notices.warn("quotes", name)
            values[name] = bare
    return Attributes(values, attributes.ranks, attributes.labels)


def without_quotes(text: str) -> str:
    """Return the text without one pair of quotes around the whole of it, and without blanks around it."""
    text = text.strip()
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'" and text[0] not in text[1:-1]:
        return text[1:-1].strip()
    return text


def named_ports(entries: Iterable[Entry]) -> set[tuple[int, str]]:
    """Return the ports that a ``SERVICE_<port>_NAME`` names, tcp where it gives no protocol."""
    named = [entry.key for entry in entries if entry.key.name == "name" and entry.value.strip()]
    return {(key.low, key.protocol or "tcp") for key in named if key.is_exact}


def is_off(text: str) -> bool:
    """Return whether a switch's value means off."""
    return text.strip().lower() in _OFF


def duration_seconds(text: str) -> float:
    """Return the seconds of one of Consul's durations, such as ``10s`` or ``1m30s``; 0.0 for what is not a duration,
    for zero, and for more than ten years."""
    if not text or len(text) > 100 or _DURATION.sub("", text):
        return 0.0
    seconds = sum(float(number) * _UNITS[unit] for number, unit in _DURATION.findall(text))
    return seconds if 1e-9 <= seconds <= LONGEST_SECONDS else 0.0
