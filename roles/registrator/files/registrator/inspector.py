# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Inspect containers on a few threads, so that a container that Docker has locked does not hold up the others."""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Callable

from registrator.dockerapi import FAILURES, DockerClient, Unanswered

# Docker itself becomes slower with more, and each costs memory.
THREADS = 4


@dataclass(frozen=True)
class Answer:
    """What Docker answered about one container: its document, or why there is none."""

    container: str
    document: Mapping[str, Any] | None = None
    error: Exception | None = None


@dataclass
class _Question:
    """A question on its way. ``void``: its answer is outdated; ``again``: ask once more after it."""

    void: bool = False
    again: bool = False


class Inspector:
    """Asks Docker in the background. All methods belong to one thread, which also gets the answers."""

    def __init__(self, connect: Callable[[], DockerClient], put: Callable[[Answer], None]) -> None:
        """Create an inspector that opens its connections with ``connect`` and hands each answer to ``put``."""
        self._connect = connect
        self._put = put
        self._work: queue.SimpleQueue[str] = queue.SimpleQueue()
        # Containers without an answer last time have a thread of their own: each may block it until the time-out.
        self._stuck: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._unanswered: set[str] = set()
        self._questions: dict[str, _Question] = {}
        self._threads: list[threading.Thread] = []

    def ask(self, container: str) -> None:
        """Inspect a container; if that is already under way, do it once more, since the answer may be older."""
        question = self._questions.get(container)
        if question is not None:
            question.again = True
            return
        self._questions[container] = _Question()
        if not self._threads:
            self._start()
        (self._stuck if container in self._unanswered else self._work).put(container)

    def ignore(self, container: str) -> None:
        """Make the answer that is under way void: the container ended after the question."""
        self._unanswered.discard(container)
        question = self._questions.get(container)
        if question is not None:
            question.void, question.again = True, False

    def accept(self, answer: Answer) -> bool:
        """Note that an answer arrived; returns whether it still counts."""
        question = self._questions.pop(answer.container, None)
        if isinstance(answer.error, Unanswered):
            self._unanswered.add(answer.container)
        else:
            self._unanswered.discard(answer.container)
        if question is None:
            return False
        if question.again:
            self.ask(answer.container)
        return not question.void

    def is_asking(self, container: str) -> bool:
        """Return whether an answer that counts is still to come."""
        question = self._questions.get(container)
        return question is not None and (question.again or not question.void)

    def is_alive(self) -> bool:
        """Return whether no thread has ended."""
        return all(thread.is_alive() for thread in self._threads)

    def _start(self) -> None:
        for number, work in enumerate([*[self._work] * THREADS, self._stuck]):
            thread = threading.Thread(target=self._answer, args=(work,), name=f"docker-inspect-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def _answer(self, work: queue.SimpleQueue[str]) -> None:
        client = self._connect()
        while True:
            container = work.get()
            try:
                answer = Answer(container, client.inspect(container))
            except Exception as error:
                # Docker's own failures have their types; whatever else happens concerns this container only.
                known = isinstance(error, FAILURES)
                answer = Answer(container, error=error if known else Unanswered(f"{type(error).__name__}: {error}"))
            self._put(answer)
