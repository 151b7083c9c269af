# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Structured log lines: a priority for the journal, an event, and key=value pairs."""

from __future__ import annotations

import sys
import threading
from collections.abc import Container
from typing import Any

_LOCK = threading.Lock()
_PRIORITY = {"error": 3, "warning": 4, "info": 6}


def field(value: Any) -> str:
    """One value, quoted when it would not read as one word. A user's text cannot start a new line or forge a field."""
    text = str(value)
    if text and all(character.isalnum() or character in "-_.:/@+," for character in text):
        return text
    escaped = "".join(character if character.isprintable() else f"\\x{ord(character):02x}" for character in text.replace("\\", "\\\\").replace('"', '\\"'))
    return f'"{escaped}"'


def line(level: str, event: str, **fields: Any) -> str:
    """The text of one log line."""
    words = ["event=" + field(event)] + [f"{key}={field(value)}" for key, value in fields.items()]
    return f"<{_PRIORITY[level]}>{' '.join(words)}"


def log(level: str, event: str, **fields: Any) -> None:
    """Write one log line."""
    with _LOCK:
        print(line(level, event, **fields), file=sys.stderr, flush=True)


class Once:
    """Writes each line about a container once in the container's life."""

    def __init__(self) -> None:
        self._said: dict[tuple[str, str, str], None] = {}

    def say(self, level: str, container: str, event: str, reason: str, **fields: Any) -> bool:
        """Write a line unless it was written before; returns whether it was."""
        key = (container, event, " ".join("{}={}".format(*item) for item in sorted(fields.items())) + reason)
        if key in self._said:
            return False
        self._said[key] = None
        log(level, event, container=container[:12], **fields, reason=reason)
        return True

    def forget_all_but(self, containers: Container[str]) -> None:
        """Forget what was written about other containers; lines about none are kept."""
        for key in [key for key in self._said if key[0] and key[0] not in containers]:
            del self._said[key]
