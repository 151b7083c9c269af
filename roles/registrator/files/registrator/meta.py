# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Free attributes -> the meta data of a service. Pure."""

from __future__ import annotations

import re

from registrator.attributes import Attributes, Notices
from registrator.checks import is_check
from registrator.endpoints import own_network
from registrator.model import MARK, ORIGINS, Facts, Settings
from registrator.secrecy import secret_name, secret_value
from registrator.tags import CONTROL

# What Consul itself accepts; a registration beyond it would be refused as a whole.
META_PAIRS = 64
META_KEY = re.compile(r"[A-Za-z0-9_-]{1,128}")
META_VALUE_BYTES = 512

# Attributes that say how to register and are no information about the service.
_CONSUMED = ("name", "tags", "id", "ignore", "warmup", "enable_tag_override")

_IMAGE_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


def image_version(image: str) -> str:
    """Return the image's tag, when it says which version this is: a digest does not, and ``latest`` least of all."""
    name, _colon, tag = image.split("@", 1)[0].rsplit("/", 1)[-1].partition(":")
    return tag if _IMAGE_TAG.fullmatch(tag) and tag != "latest" and name != "sha256" else ""


def _known_meta(facts: Facts) -> dict[str, str]:
    """Return what the container itself tells: its version and what it is part of."""
    known = {key: facts.labels[label] for label, key in ORIGINS.items() if facts.labels.get(label)}
    version = image_version(facts.image)
    return {"version": version, **known} if version else known


def _is_known(name: str) -> bool:
    """Return whether the platform itself reads this meta data."""
    return name.startswith("edge_") or name in ("version", "weight")


def _fault(name: str, value: str, attributes: Attributes, settings: Settings) -> tuple[str, dict[str, object]]:
    """Return the kind of the refusal of one pair, and what its text needs; an empty kind for a good one."""
    if not META_KEY.fullmatch(name):
        return "meta-key", {}
    if name == MARK or name.startswith(("consul-", "registrator-")):
        return "meta-reserved", {}
    word = secret_name(name, value)
    if word:
        return "meta-secret-key", {"what": word}
    if len(value.encode("utf-8", "replace")) > META_VALUE_BYTES:
        return "meta-length", {"most": META_VALUE_BYTES}
    if CONTROL.search(value):
        return "meta-characters", {}
    what = secret_value(value)
    if what:
        return "meta-secret-value", {"what": what}
    if not settings.environment_meta and name not in attributes.labels and not _is_known(name):
        return "meta-environment", {}
    return "", {}


def meta_of(
    facts: Facts,
    settings: Settings,
    attributes: Attributes,
    protocol: str,
    notices: Notices,
) -> dict[str, str]:
    """Return the free attributes that Consul accepts as meta data, and after them what the container itself tells."""
    meta: dict[str, str] = {}
    # Places are kept for the engine's mark, for edge_weight, and for the protocol where it is not tcp.
    places = META_PAIRS - (2 if protocol == "tcp" else 3)
    # What the platform reads comes first, so that it is not what falls out when there are too many.
    for name in sorted(attributes.values, key=lambda key: (not _is_known(key), key)):
        value = attributes.values[name]
        if name in _CONSUMED or is_check(name) or (name == "address" and own_network(attributes) is not None):
            continue
        kind, values = _fault(name, value, attributes, settings)
        if not kind and len(meta) >= places:
            kind, values = "meta-count", {"most": META_PAIRS}
        if kind:
            notices.refuse(kind, name, **values)
        else:
            meta[name] = value
    for name, value in _known_meta(facts).items():
        fits = len(meta) < places and len(value.encode("utf-8", "replace")) <= META_VALUE_BYTES
        what = secret_value(value)
        if name in attributes.values or not fits or CONTROL.search(value):
            continue
        if what:
            notices.refuse("meta-secret-value", name, what=what)
        else:
            meta[name] = value
    return meta
