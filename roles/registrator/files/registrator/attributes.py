# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``SERVICE_*`` labels and environment -> the attributes of each port. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from registrator.model import Facts

_PREFIX = "SERVICE_"

_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ns|us|µs|ms|s|m|h)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}

# Ten years; Consul's own limit is not much higher, and beyond it it refuses the whole registration.
LONGEST_SECONDS = 87600 * 3600.0


def split_key(key: str) -> tuple[int, str]:
    """``SERVICE_80_NAME`` -> ``(80, "name")``; ``SERVICE_NAME`` -> ``(0, "name")``; ``(0, "")`` for every other key."""
    if not key.startswith(_PREFIX):
        return 0, ""
    name = key[len(_PREFIX) :].lower()
    head, _underscore, rest = name.partition("_")
    if rest and head.isascii() and head.isdecimal() and len(head) <= 5:
        return int(head), rest
    return 0, name


def attributes_of(facts: Facts, port: int) -> tuple[dict[str, str], set[str]]:
    """The attributes for one port, and which of them were given for this very port.

    What names the port wins over what does not; within each, a label wins over the environment.
    """
    general: dict[str, str] = {}
    special: dict[str, str] = {}
    for source in (facts.env, facts.labels):
        for key, value in source.items():
            number, name = split_key(key)
            if not name:
                continue
            if number == 0:
                general[name] = value
            elif number == port:
                special[name] = value
    return {**general, **special}, set(special)


def named_ports(facts: Facts) -> set[int]:
    """The ports that any ``SERVICE_<port>_*`` label or variable names."""
    return {split_key(key)[0] for source in (facts.env, facts.labels) for key in source} - {0}


def split_tags(text: str) -> list[str]:
    r"""The tags of a comma separated list; ``\,`` is a comma inside a tag. Blanks around a tag are dropped."""
    tags: list[str] = []
    current = ""
    characters = iter(text)
    for character in characters:
        if character == "\\":
            following = next(characters, "")
            current += following if following == "," else character + following
        elif character == ",":
            tags.append(current)
            current = ""
        else:
            current += character
    tags.append(current)
    return [tag.strip() for tag in tags if tag.strip()]


def is_set(attributes: Mapping[str, str], name: str) -> bool:
    """Whether a switch is on: any value but an empty one, ``false``, ``no``, ``off`` and ``0``."""
    return attributes.get(name, "").strip().lower() not in ("", "0", "false", "no", "off")


def duration_seconds(text: str) -> float:
    """The seconds of one of Consul's durations, such as ``10s`` or ``1m30s``; 0.0 for what is none, is zero, or is over ten years."""
    if not text or _DURATION.sub("", text):
        return 0.0
    seconds = sum(float(number) * _UNITS[unit] for number, unit in _DURATION.findall(text))
    return seconds if 1e-9 <= seconds <= LONGEST_SECONDS else 0.0


def shown(text: str) -> str:
    """A user's text for a log line: quoted, and cut where it gets long."""
    return repr(text if len(text) <= 60 else text[:57] + "...")
