# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the engine's thread waits for: events, answers of Docker, and orders."""

from __future__ import annotations

import queue
import time
from collections import deque
from typing import Union

from registrator.control import Request
from registrator.inspector import Answer
from registrator.world import Event

Item = Union[Event, Answer, Request]


class Inbox:
    """A queue that any thread fills and one thread reads."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Item] = queue.SimpleQueue()
        # What arrived while only answers were waited for.
        self._aside: deque[Item] = deque()

    def put(self, item: Item) -> None:
        """Add one item, from any thread."""
        self._queue.put(item)

    def wait(self, seconds: float) -> list[Item]:
        """Wait for the first item, and return all that are there."""
        received = list(self._aside)
        self._aside.clear()
        try:
            if not received:
                received.append(self._queue.get(timeout=max(0.0, seconds)))
            while True:
                received.append(self._queue.get_nowait())
        except queue.Empty:
            return received

    def wait_for_answer(self, seconds: float) -> Answer | None:
        """Wait for the next answer of Docker and put everything else aside; None when none arrives in time."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                item = self._queue.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return None
            if isinstance(item, Answer):
                return item
            self._aside.append(item)
