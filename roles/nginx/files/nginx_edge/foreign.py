# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find what the operator's own configuration has to do with the upstreams of services.

An upstream exists as long as its service has an instance. nginx refuses its whole configuration when a file of the operator passes requests to an
upstream that does not exist, or defines one that a service has too. Neither may keep the changes of all other services from the edge.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

_LABEL = r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?"
# The names that the edge gives to upstreams, and no others: a mistyped host name stays the operator's mistake.
UPSTREAM = rf"(?:internal_)?(?:http|tcp|tls)_{_LABEL}(?:\.canary|\.[1-9][0-9]{{0,4}})?"
_COMMENT = re.compile(r"(^|[\s;{}])#[^\n]*")
_PASS = re.compile(rf"\b[a-z]+_pass\s+[\"']?(?:[a-z]+://)?({UPSTREAM})(?=[/;?$\"'\s])")
_DEFINED = re.compile(rf"(?:^|[\s;{{}}])upstream\s+[\"']?({UPSTREAM})[\"']?\s*\{{")
_REFUSED = re.compile(rf"(?:host not found in upstream \"(?P<passed>{UPSTREAM})\"|duplicate upstream \"(?P<defined>{UPSTREAM})\")")
_FILE = re.compile(r"the operator's own file (/\S+), line ")
_DOUBLED = re.compile(r"conflicting server name \"([^\"]{1,253})\" on (\S{1,80}), ignored")
MAX_FILE = 4 << 20


class Foreign(NamedTuple):
    """Upstreams of the edge's kind in the operator's files, each with the file that has it."""

    passed: dict[str, str]
    defined: dict[str, str]
    # Host names that two servers have, each with its socket.
    doubled: tuple[tuple[str, str], ...] = ()


NOTHING = Foreign({}, {})


def names(text: str) -> tuple[set[str], set[str]]:
    """Return the upstreams that a configuration text passes requests to, and those that it defines."""
    bare = _COMMENT.sub(r"\1", text)
    return set(_PASS.findall(bare)), set(_DEFINED.findall(bare))


def refused(message: str) -> tuple[str, str, str]:
    """Return (passed to, defined, file) out of a message about nginx's; each is empty when the message does not tell."""
    match, place = _REFUSED.search(message), _FILE.search(message)
    return (match.group("passed") or "", match.group("defined") or "", place.group(1) if place else "") if match else ("", "", "")


def doubled(warnings: str) -> set[tuple[str, str]]:
    """Return the host names that nginx says two servers have, each with its socket."""
    return set(_DOUBLED.findall(warnings))


def scan(directory: str) -> Foreign:
    """Read every file of the configuration directory, whether nginx reads it or not."""
    found = Foreign({}, {})
    for folder, _, files in os.walk(directory):
        for name in sorted(files):
            path = f"{folder}/{name}"
            for known, new in zip((found.passed, found.defined), names(text_of(path))):
                for upstream in sorted(new):
                    known.setdefault(upstream, path)
    return found


def text_of(path: str) -> str:
    """Return the text of a file; nothing for what is not a file or cannot be read, which is for nginx to report."""
    try:
        if not os.path.isfile(path) or os.path.getsize(path) > MAX_FILE:
            return ""
        with open(path, encoding="utf-8", errors="replace") as handle:
            return handle.read()
    except OSError:
        return ""
