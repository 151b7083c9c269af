# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's files: what must survive its restart but not a reboot, what must survive both, and the status for people and plays."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

STATE = "state.json"
STATUS = "status.json"
# In the data directory: the containers that an operator drained.
DRAINED = "drained.json"
_LOCK = "lock"


class AlreadyRuns(Exception):
    """Another process keeps the catalogue."""


def lock(directory: str) -> int:
    """Be the only one that changes the catalogue, until this process ends; the number is the lock's file descriptor.

    Raises:
        AlreadyRuns: another process is.
        OSError: the directory does not exist or may not be used.
    """
    # Whoever comes first makes the file, root or the service's user; to be allowed to read it is enough for a lock.
    descriptor = os.open(Path(directory) / _LOCK, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise AlreadyRuns from error
    return descriptor


def write(directory: str, name: str, data: dict[str, Any]) -> None:
    """Replace one file atomically."""
    target = Path(directory) / name
    temporary = target.with_name(f".{name}.new")
    temporary.write_text(json.dumps(data, sort_keys=True), encoding="utf-8")
    os.replace(temporary, target)


def read(directory: str, name: str) -> dict[str, Any]:
    """One file's object; an empty one when there is none or it cannot be understood."""
    try:
        data = json.loads((Path(directory) / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def process_token(pid: int) -> str:
    """Identifies one run of a process beyond its number: its start time in ticks. Empty when there is no such process."""
    if pid <= 0:
        return ""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    # The name in parentheses may itself hold blanks and parentheses.
    values = text.rpartition(")")[2].split()
    # A zombie runs no more, though its number is still taken.
    return "" if len(values) < 20 or values[0] in ("Z", "X") else values[19]
