# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find what the operator's own configuration has to do with the upstreams of services.

An upstream exists as long as its service has an instance. nginx refuses its whole configuration when a file of the operator
passes requests to an upstream that does not exist, defines one that a service has too, or passes requests to a host name that
has no address. None of this may keep the changes of all other services from the edge.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import NamedTuple

_LABEL = r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?"
# The names that the edge gives to upstreams, and no others: a mistyped host name stays the operator's mistake.
UPSTREAM = rf"(?:internal_)?(?:http|tcp|tls)_{_LABEL}(?:\.canary|\.[1-9][0-9]{{0,4}})?(?:\.shared)?"
# The edge's own, whose connections serve one client after the other.
SHARED = ".shared"
_COMMENT = re.compile(r"(^|[\s;{}])#[^\n]*")
_PASS = re.compile(rf"\b[a-z]+_pass\s+[\"']?(?:[a-z]+://)?({UPSTREAM})(?=[/;?$\"'\s])")
_DEFINED = re.compile(rf"(?:^|[\s;{{}}])upstream\s+[\"']?({UPSTREAM})[\"']?\s*\{{")
_REFUSED = re.compile(rf"(?:host not found in upstream \"(?P<passed>{UPSTREAM})\"|duplicate upstream \"(?P<defined>{UPSTREAM})\")")
# nginx says the same of a name with a port, and of a server in an upstream block.
_NO_ADDRESS = re.compile(r"host not found in upstream \"([A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?)\"")
_HAS_PORT = re.compile(r"upstream \"([A-Za-z0-9][A-Za-z0-9._-]{0,252})\" may not have port")
_FILE = re.compile(r"the operator's own file (/\S+), line ")
_DOUBLED = re.compile(r"conflicting server name \"([^\"]{1,253})\" on (\S{1,80}), ignored")
MAX_FILE = 4 << 20
# What to write instead of a host name that need not have an address when nginx starts.
NAMES = "use http_NAME for a service of the edge, or a resolver and a variable (set $target NAME; proxy_pass http://$target;)"


class Foreign(NamedTuple):
    """Upstreams of the edge's kind in the operator's files, each with the file that has it."""

    passed: dict[str, str]
    defined: dict[str, str]
    # Host names that two servers have, each with its socket.
    doubled: tuple[tuple[str, str], ...] = ()
    # Host names without an address, each with the file that passes requests to it.
    unresolved: dict[str, str] = {}  # noqa: RUF012 - a named tuple copies no default, and nobody changes this one


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


def no_address(message: str) -> tuple[str, str]:
    """Return (host name, file) out of a message of nginx's about a name without an address; both are empty for any other message."""
    match, place = _NO_ADDRESS.search(message), _FILE.search(message)
    if match is None or place is None or re.fullmatch(UPSTREAM, match.group(1)):
        return "", ""
    return match.group(1), place.group(1)


def with_port(message: str) -> str:
    """Return the host name that nginx refuses as an upstream because the operator passes requests to a port of it."""
    match = _HAS_PORT.search(message)
    return match.group(1) if match else ""


def passes_to(text: str, name: str) -> bool:
    """Return whether a configuration text passes requests to a host name, without a port."""
    return re.search(rf"//{re.escape(name)}(?=[/;?\"'\s])", _COMMENT.sub(r"\1", text), re.IGNORECASE) is not None


def scan(files: Iterable[str]) -> Foreign:
    """Read the operator's files."""
    found = Foreign({}, {})
    for path in files:
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
