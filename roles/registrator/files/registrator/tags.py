# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``SERVICE_TAGS`` -> the tags of a service. Pure."""

from __future__ import annotations

import json
import re

from registrator.attributes import Notices, without_quotes
from registrator.secrecy import secret_value, shown

# Consul sets no limit. Rules of proxies in tags get long, and a tag is repeated in every answer about its service.
TAG_BYTES = 4096
TAGS_BYTES = 65536

# Also those that command a terminal, end a line, or turn the direction of writing round.
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_COMMA = re.compile(r"(?<!\\),")
_SEVERAL = re.compile(r"[A-Za-z0-9._-]+([\s;|]+[A-Za-z0-9._-]+)+")
# What edges look for. Other tags may well be in upper case.
_LOWER = ("http", "https", "tcp", "tls", "udp")


def split_tags(text: str) -> list[str]:
    r"""Return the tags of a list separated by commas, without blanks around them; ``\,`` is a comma in a tag."""
    return [tag.strip() for tag in (part.replace("\\,", ",") for part in _COMMA.split(text)) if tag.strip()]


def _from_list(text: str) -> list[str]:
    """Return the tags of a list in brackets, as JSON or without its quotes."""
    try:
        items = json.loads(text)
    except (ValueError, RecursionError):
        items = None
    if isinstance(items, list) and all(isinstance(item, str) for item in items):
        return [item.strip() for item in items if item.strip()]
    return [without_quotes(tag) for tag in split_tags(text[1:-1])]


def _written(text: str, notices: Notices) -> list[str]:
    """Return the tags that a label gives, without a list's brackets and quotes."""
    if text.startswith("[") and text.endswith("]"):
        notices.warn("tag-list", "tags")
        return _from_list(text)
    tags = split_tags(text)
    bare = [without_quotes(tag) for tag in tags]
    if bare != tags:
        notices.warn("tag-list", "tags")
    return bare


def _question(tag: str, protocol: str, notices: Notices) -> None:
    """Warn of a tag that probably means something else than it does."""
    if _SEVERAL.fullmatch(tag):
        notices.warn("tag-separator", "tags", text=shown(tag))
    if tag not in _LOWER and tag.lower() in _LOWER:
        notices.warn("tag-case", "tags", text=shown(tag), other=repr(tag.lower()))
    if "{{" in tag:
        notices.warn("tag-template", "tags", text=shown(tag))
    if tag == "udp" and protocol != "udp":
        notices.warn("tag-udp", "tags", protocol=protocol)


def tags_of(text: str, common: tuple[str, ...], protocol: str, notices: Notices) -> tuple[str, ...]:
    """Return the tags of one port: those of its label, those that every service gets, and ``udp`` on a udp port."""
    tags: list[str] = []
    room = TAGS_BYTES
    for tag in _written(text, notices):
        _question(tag, protocol, notices)
        secret = secret_value(tag)
        if CONTROL.search(tag):
            notices.refuse("tag-characters", "tags", text=shown(tag))
        elif secret:
            notices.refuse("tag-secret", "tags", what=secret)
        elif len(tag.encode()) > TAG_BYTES:
            notices.refuse("tag-length", "tags", length=len(tag.encode()), most=TAG_BYTES)
        elif len(tag.encode()) > room:
            notices.refuse("tag-count", "tags", most=TAGS_BYTES)
            break
        else:
            room -= len(tag.encode())
            tags.append(tag)
    return tuple(dict.fromkeys([*tags, *common, *(["udp"] if protocol == "udp" else [])]))
