# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What systemd is told of registrator: signs of life, and that it is ready."""

from __future__ import annotations

import time

from registrator.journal import log
from registrator.notify import notify

# How long Docker's start waits at most, after a start of the host, for what ran before to leave the catalogue.
READY_LATEST_SECONDS = 20.0


class Health:
    """Whether Docker and the agent answer, and whether what ran before has left the catalogue."""

    def __init__(self) -> None:
        # What does not answer, with the reason.
        self.down: dict[str, str] = {}
        self.cleared = False
        # Until systemd has been told that registrator is ready: from when on it is told in any case.
        self._ready_latest: float | None = None

    def set_down(self, what: str, reason: str) -> None:
        """Note that Docker or the agent does not answer."""
        if what not in self.down:
            log("warning", what + "-down", reason=reason)
        self.down[what] = reason

    def set_up(self, what: str) -> bool:
        """Note that Docker or the agent answers; return whether it did not before."""
        if self.down.pop(what, None) is None:
            return False
        log("info", what + "-up")
        return True

    # -- systemd -------------------------------------------------------------------------------------------------------

    def expect_ready(self) -> None:
        """Begin to wait until registrator is ready."""
        self._ready_latest = time.monotonic() + READY_LATEST_SECONDS

    def seconds_to_ready(self) -> float:
        """Return the seconds after which systemd is told in any case."""
        return float("inf") if self._ready_latest is None else self._ready_latest - time.monotonic()

    def beat(self) -> None:
        """Give systemd a sign of life, from the thread that does the work. A pass may take minutes."""
        notify("WATCHDOG=1")
        self._notify_ready()

    def _notify_ready(self) -> None:
        """Tell systemd, which starts Docker then: its containers get ports that what ran before may have had."""
        if self._ready_latest is None or not (self.cleared or time.monotonic() >= self._ready_latest):
            return
        if not self.cleared:
            down = "; ".join(self.down.values()) or "see the lines before"
            reason = f"what ran before may still be in the catalogue: {down}"
            log("error", "not-cleared", seconds=f"{READY_LATEST_SECONDS:g}", reason=reason)
        self._ready_latest = None
        notify("READY=1")
