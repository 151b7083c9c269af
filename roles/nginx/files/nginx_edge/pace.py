# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Limit how often changes are applied, and how often consul-template renders meanwhile."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time


class Pace:
    """How soon the next change may follow.

    Every reload leaves old workers behind until their last connection ends. So a few changes, as many as a person makes,
    are applied at once, and then one a second, each with everything that came in between."""

    AT_ONCE, PER_SECOND = 10.0, 1.0

    def __init__(self) -> None:
        self._left, self._at = self.AT_ONCE, 0.0
        self._changed = float("-inf")

    def _refill(self, now: float) -> None:
        self._left, self._at = min(self.AT_ONCE, self._left + max(0.0, now - self._at) * self.PER_SECOND), now

    def pause(self, now: float) -> float:
        """Seconds to wait before the next run."""
        self._refill(now)
        return max(0.0, (1 - self._left) / self.PER_SECOND)

    def is_storm(self, now: float) -> bool:
        """Whether a run now would follow closely upon one that changed something."""
        return now - self._changed < 1 / self.PER_SECOND

    def spend(self, now: float) -> None:
        """A run has changed something."""
        self._refill(now)
        self._left -= 1
        self._changed = now


class Busy:
    """A lock that ``nginx-edge-request --paced`` waits for, so that consul-template does not render what would be replaced.

    It only delays: a request waits 5 s at most, the kernel releases the lock when the program ends, and without the lock,
    or while another process holds it, everything works as before."""

    #: Seconds before the next run at which the latest state is rendered; with about 1,000 services that takes so long.
    AHEAD = 0.25
    #: Seconds for which the lock is released then: enough for the request that waits, and not for the one after it.
    GAP = 0.02

    def __init__(self, path: str, group: int) -> None:
        self._fd = -1
        with contextlib.suppress(OSError):
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
            # Only for users who may request an apply, because a user who can open the file can hold the lock.
            os.fchown(self._fd, -1, group)

    def _lock(self, how: int) -> None:
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                fcntl.flock(self._fd, how | fcntl.LOCK_NB)

    def hold(self) -> None:
        """Delay further renderings."""
        self._lock(fcntl.LOCK_EX)

    def release(self) -> None:
        """Allow renderings."""
        self._lock(fcntl.LOCK_UN)

    def rest(self, seconds: float) -> None:
        """Wait, and allow one rendering of the latest state in time for the next run.

        After a pause of more than ``AHEAD`` the lock is still held, for that run."""
        if seconds <= self.AHEAD:
            self.release()
            time.sleep(seconds)
            return
        self.hold()
        time.sleep(seconds - self.AHEAD)
        self.release()
        time.sleep(self.GAP)
        self.hold()
        time.sleep(self.AHEAD - self.GAP)
