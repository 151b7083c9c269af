# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Structured log lines: a priority for the journal, an event, and key=value pairs."""

from __future__ import annotations

import sys
import threading
from typing import Any

_LOCK = threading.Lock()
_PRIORITY = {"error": 3, "warning": 4, "info": 6}


def plain(text: str) -> str:
    """Return a text that cannot start a new line, nor command a terminal."""
    return "".join(character if character.isprintable() else f"\\x{ord(character):02x}" for character in text)


def field(value: Any) -> str:
    """One value, quoted when it would not read as one word. A user's text cannot start a new line or forge a field."""
    text = str(value)
    if text and all(character.isalnum() or character in "-_.:/@+," for character in text):
        return text
    escaped = plain(text.replace("\\", "\\\\").replace('"', '\\"'))
    return f'"{escaped}"'


def line(level: str, event: str, **fields: Any) -> str:
    """The text of one log line."""
    words = ["event=" + field(event)] + [f"{key}={field(value)}" for key, value in fields.items()]
    return f"<{_PRIORITY[level]}>{' '.join(words)}"


def log(level: str, event: str, **fields: Any) -> None:
    """Write one log line."""
    with _LOCK:
        print(line(level, event, **fields), file=sys.stderr, flush=True)


# Enough for all containers of a host; what is more belongs to removed ones.
_MOST_LINES = 20_000


class Once:
    """Writes each line about a container once in the container's life, however often it is started."""

    def __init__(self) -> None:
        self._said: dict[tuple[str, str, str], None] = {}

    def say(self, level: str, container: str, event: str, reason: str, **fields: Any) -> bool:
        """Write a line unless it was written before; returns whether it was."""
        # A container may be renamed.
        about = [f"{key}={value}" for key, value in sorted(fields.items()) if key != "name"]
        key = (container, event, " ".join(about) + reason)
        if key in self._said:
            return False
        self._said[key] = None
        if len(self._said) > _MOST_LINES:
            del self._said[next(iter(self._said))]
        log(level, event, container=container[:12], **fields, reason=reason)
        return True

    def forget(self, container: str) -> None:
        """Forget what was written about a container that does not exist any more."""
        for key in [key for key in self._said if key[0] == container]:
            del self._said[key]
