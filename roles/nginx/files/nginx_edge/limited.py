# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests and connections that the limits of the edge refused, counted in its access logs.

nginx has no counter of its own for them, and without one nobody knows that a limit shuts clients out.
"""

from __future__ import annotations

import json
import os
import re
from typing import Any, NamedTuple

from .files import open_regular, read_text, replace_file

LIMITS = ("request_limit", "rate_limit", "connection_limit")
CHUNK = 1 << 20
_LOG = re.compile(r"^[ \t]*access_log (/[A-Za-z0-9._/-]+) (?:edge_http|edge_tcp)\b", re.MULTILINE)
# In front of everything that a client sends: it cannot write such a field.
_LINE = re.compile(
    rb'^(?:\{"time":"[^"\n]*","client":"(?P<json>[^"\n]*)","limited":"(?P<one>[a-z_]+)"'
    rb"|[^ \n]+ client=(?P<text>[^ \n]*) limited=(?P<other>[a-z_]+) )",
    re.MULTILINE,
)


class Hits(NamedTuple):
    """What one limit refused."""

    count: int = 0
    # When it was last seen, in Unix time, and the client.
    last: float = 0
    client: str = ""


def logs_of(text: str) -> list[str]:
    """Return the access logs that a rendered side writes."""
    return sorted({match.group(1) for match in _LOG.finditer(text)})


def refusals(lines: bytes) -> list[tuple[str, str]]:
    """Return limit and client of each refusal in whole lines of a log."""
    found = []
    for match in _LINE.finditer(lines):
        limit = (match.group("one") or match.group("other")).decode()
        if limit in LIMITS:
            client = match.group("json") if match.group("json") is not None else match.group("text")
            found.append((limit, client.decode("ascii", "replace")[:64]))
    return found


class Counted:
    """What was counted, and up to where. It is kept in a file, so that the counters outlive the program."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.hits = {limit: Hits() for limit in LIMITS}
        self.places: dict[str, tuple[int, int]] = {}
        # By log, the one that was rotated away last: nginx goes on writing to it until it has opened the new one.
        self.rotated: dict[str, tuple[int, int]] = {}
        self.changed = False
        try:
            self._take(json.loads(read_text(path) or "{}"))
        except (ValueError, TypeError, AttributeError, RecursionError):
            # Counted anew: a counter may begin again at any time.
            self.hits, self.places, self.rotated = {limit: Hits() for limit in LIMITS}, {}, {}

    def _take(self, found: Any) -> None:
        for limit, (count, last, client) in found.get("hits", {}).items():
            if limit in LIMITS:
                self.hits[limit] = Hits(int(count), float(last), str(client))
        self.places, self.rotated = (
            {str(path): (int(inode), int(offset)) for path, (inode, offset) in found.get(name, {}).items()} for name in ("places", "rotated")
        )

    def follow(self, paths: list[str], now: float) -> bool:
        """Read what is new in these logs; whether there were refusals. A log that is seen for the first time counts from now on."""
        hits, before = dict(self.hits), (self.places, dict(self.rotated))
        places: dict[str, tuple[int, int]] = {}
        for path in paths:
            place = self._read_new(path, now)
            if place:
                places[path] = place
        self.places = places
        self.rotated = {path: place for path, place in self.rotated.items() if path in places}
        self.changed = (self.places, self.rotated) != before
        return self.hits != hits

    def _read_new(self, path: str, now: float) -> tuple[int, int] | None:
        known = self.places.get(path)
        log = open_regular(path)
        if log is None:
            return known
        with log:
            state = os.fstat(log.fileno())
            if known is None:
                return state.st_ino, state.st_size
            if state.st_ino != known[0]:
                self.rotated[path] = known
                known = (state.st_ino, 0)
            self._read_rotated(path, now)
            return state.st_ino, self._count(log, known[1] if known[1] <= state.st_size else 0, now)

    def _read_rotated(self, path: str, now: float) -> None:
        """Read what is new in the log that was rotated away, as long as it is not compressed."""
        inode, offset = self.rotated.get(path, (0, 0))
        log = open_regular(f"{path}.1") if inode else None
        if log is not None:
            with log:
                if os.fstat(log.fileno()).st_ino == inode:
                    self.rotated[path] = inode, self._count(log, offset, now)

    def _count(self, log: Any, offset: int, now: float) -> int:
        """Count from a place on; return the place after the last whole line."""
        log.seek(offset)
        rest = b""
        while data := log.read(CHUNK):
            lines, newline, rest = (rest + data).rpartition(b"\n")
            offset += len(lines) + len(newline)
            for limit, client in refusals(lines):
                self.hits[limit] = Hits(self.hits[limit].count + 1, round(now, 3), client)
            # No line of the edge is as long.
            if len(rest) > CHUNK:
                offset, rest = offset + len(rest), b""
        return offset

    def save(self) -> None:
        """Write the file, if there is something new."""
        if self.changed:
            replace_file(self.path, json.dumps({"hits": self.hits, "places": self.places, "rotated": self.rotated}) + "\n", sync=False)
            self.changed = False

    def document(self) -> dict[str, dict[str, Any]]:
        """Return those limits that refused something, for the status document."""
        return {limit: hits._asdict() for limit, hits in self.hits.items() if hits.count}
