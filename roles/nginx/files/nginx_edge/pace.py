# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What keeps a storm of changes from becoming one of reloads, and of renderings that nobody reads."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time


class Pace:
    """How soon the next change may follow. Every reload leaves the workers of before behind until their last connection ends, so a storm of changes
    must not become one of reloads: some at once, as many as a person sets off, and then one a second, which carries all that came meanwhile."""

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
    """A lock that ``nginx-edge-request`` waits for, so that consul-template renders nothing that would be replaced before it is read.

    It can do no more than delay: who asks waits a few seconds at most, the kernel lets go of it when the program dies, and when somebody else
    holds it, or it can't be had, everything goes on without it."""

    #: Seconds before the next run at which the newest state of the catalogue is rendered: what that takes with some 1,000 services.
    AHEAD = 0.25
    #: Seconds for which the lock is let go then: long enough for one that waits, and too short for the one after it.
    GAP = 0.02

    def __init__(self, path: str, group: int) -> None:
        self._fd = -1
        with contextlib.suppress(OSError):
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
            # Only who may ask: whoever may read it can hold it.
            os.fchown(self._fd, -1, group)

    def _lock(self, how: int) -> None:
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                fcntl.flock(self._fd, how | fcntl.LOCK_NB)

    def hold(self) -> None:
        """Nothing that is rendered from now on will be read soon."""
        self._lock(fcntl.LOCK_EX)

    def release(self) -> None:
        """What is rendered from now on is wanted, also in the middle of a run."""
        self._lock(fcntl.LOCK_UN)

    def rest(self, seconds: float) -> None:
        """Wait, and let the newest state be rendered once, in time for the run that comes then.

        After a pause that is worth it the lock is held on: through that run, or until a request comes."""
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
