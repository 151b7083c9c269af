# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Services whose instances want a connection logged in, as with NTLM, from the end of the edge's access log.

The edge shares connections between clients, so such a login fails there or is closed after each request. Nobody would
know from the configuration: only the answers of the instances show it.
"""

from __future__ import annotations

import json
import os
import re

from .files import open_regular

# The answers of the last minutes or hours. A log that has just been rotated has less.
MAX_READ = 1 << 20
_LOG = re.compile(r"^[ \t]*access_log (/[A-Za-z0-9._/-]+) edge_http\b", re.MULTILINE)
_SERVICE = re.compile(r"[A-Za-z0-9_-]{1,63}").fullmatch
_SCHEME = re.compile(r"NTLM|Negotiate|Kerberos", re.IGNORECASE).fullmatch


def log_of(http_side: str) -> str:
    """Return the path of the access log that a rendered http side writes, or an empty text."""
    found = _LOG.search(http_side)
    return found.group(1) if found else ""


def logins(lines: bytes) -> dict[str, str]:
    """Return service and scheme of the answers that want a login. Lines that are not JSON tell nothing."""
    found: dict[str, str] = {}
    for line in lines.splitlines():
        if b'"login":"' not in line or b'"login":""' in line:
            continue
        try:
            entry = json.loads(line)
            service, scheme = entry["service"], entry["login"]
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
        if isinstance(service, str) and isinstance(scheme, str) and _SERVICE(service) and _SCHEME(scheme):
            found[service] = scheme
    return dict(sorted(found.items()))


def recent(path: str) -> dict[str, str]:
    """Return the logins that the end of a log shows. A log that cannot be read shows none."""
    log = open_regular(path) if path else None
    if log is None:
        return {}
    with log:
        log.seek(max(0, os.fstat(log.fileno()).st_size - MAX_READ))
        return logins(log.read(MAX_READ))
