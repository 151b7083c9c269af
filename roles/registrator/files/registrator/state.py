# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files under /run: what must survive a restart of the engine but not a reboot, and the status for people and plays."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

STATE = "state.json"
STATUS = "status.json"


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
