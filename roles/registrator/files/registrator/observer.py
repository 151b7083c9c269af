# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs in Docker: keep the known containers equal to it, from its events, its list and its answers."""

from __future__ import annotations

import enum
import time
from collections.abc import Iterable
from typing import Any, Callable

from registrator import state
from registrator.config import Config
from registrator.dockerapi import DockerClient, DockerDown, Gone, fingerprint
from registrator.facts import facts_of
from registrator.inbox import Inbox, Item
from registrator.inspector import Answer, Inspector
from registrator.journal import Once, log
from registrator.metrics import Metrics
from registrator.model import Facts
from registrator.world import Event, World

# A complete look waits for answers as long as they keep coming, with this pause at most between two of them.
PATIENCE_SECONDS = 2.0

# While Docker does not answer, it is asked again this often.
DOCKER_DOWN_SECONDS = 1.0


class Reaction(enum.Enum):
    """What an event asks for."""

    INSPECT = enum.auto()
    SIGNAL = enum.auto()
    DROP = enum.auto()
    FORGET = enum.auto()
    NOTHING = enum.auto()


def reaction(event: Event, facts: Facts | None, process: bool | None) -> Reaction:
    """Decide what an event of a container asks for. Pure.

    Docker holds a container's lock while it starts and while it ends, and then answers late. So what an event itself
    says is not asked for again.

    Args:
        event: the event.
        facts: what is known of the container; None when it is not known to run.
        process: whether the known process lives; None when that cannot be seen.
    """
    if event.kind == "kill":
        return Reaction.SIGNAL
    if event.kind == "destroy":
        return Reaction.FORGET
    if event.kind == "die":
        # The event may be about an earlier run than the one that is known.
        earlier = event.sent_at < facts.started_at if facts is not None and process is None else bool(process)
        return Reaction.INSPECT if earlier else Reaction.DROP
    if event.kind in ("connect", "disconnect"):
        if facts is None:
            # Part of a start, whose own event follows.
            return Reaction.NOTHING
        if process is False:
            # Part of an end, whose own event follows.
            return Reaction.DROP
    return Reaction.INSPECT


class Observer:
    """Owns the connections to Docker, and is the only one that changes what is known of the containers."""

    def __init__(
        self,
        config: Config,
        world: World,
        inbox: Inbox,
        metrics: Metrics,
        once: Once,
        beat: Callable[[], None],
    ) -> None:
        self.config = config
        self.world = world
        self.docker = DockerClient(config.docker_socket, config.docker_pid_file)
        self.up = False
        # Services that an earlier run of the engine registered, with the process of each.
        self.protected: dict[str, tuple[int, str]] = {}
        # Containers for which Docker gives no answer, though it answers for others.
        self.unanswered: set[str] = set()
        self.inspector = Inspector(lambda: DockerClient(config.docker_socket, config.docker_pid_file), inbox.put)
        self._inbox = inbox
        self._metrics = metrics
        self._once = once
        self._beat = beat
        self._listed: set[str] = set()
        # When to ask again, on the monotonic clock.
        self._later: dict[str, float] = {}
        # Signals to containers that are not known yet.
        self._signals: dict[str, list[Event]] = {}

    # -- events and answers --------------------------------------------------------------------------------------------

    def receive(self, items: Iterable[Item]) -> None:
        """Take over events and answers, in their order."""
        for item in items:
            if isinstance(item, Answer):
                self._take(item)
            elif isinstance(item, Event) and item.container:
                self._notice(item)

    def _notice(self, event: Event) -> None:
        container = event.container
        facts = self.world.facts.get(container)
        wanted = reaction(event, facts, self._lives(container))
        if wanted is Reaction.SIGNAL and facts is not None:
            self._signal(facts, event)
        elif wanted is Reaction.SIGNAL:
            self._signals.setdefault(container, []).append(event)
            self.inspector.ask(container)
        elif wanted is Reaction.DROP:
            self._drop(container)
        elif wanted is Reaction.FORGET:
            self._forget(container)
        elif wanted is Reaction.INSPECT or self.inspector.is_asking(container):
            # Also a network that comes after the start: the answer under way may be older.
            self.inspector.ask(container)

    def _take(self, answer: Answer) -> None:
        container, error = answer.container, answer.error
        if not self.inspector.accept(answer):
            return
        self._later.pop(container, None)
        if isinstance(error, DockerDown):
            # A complete look finds out whether Docker is down; later failures of the same kind need no other one.
            if self.up:
                self._inbox.put(Event("lost"))
            self.up = False
        elif isinstance(error, Gone):
            self._forget(container)
        elif error is not None:
            self._set_aside(container, error)
        else:
            self.unanswered.discard(container)
            self._describe(container, answer.document)

    def _describe(self, container: str, document: Any) -> None:
        """Take over a container's document."""
        try:
            facts = facts_of(document)
        except Exception as error:
            # A document of an unknown form must not stop the registration of all others.
            self.world.drop(container)
            self._once.say("error", "", "unreadable", f"{type(error).__name__}: {error}", container_id=container[:12])
            return
        self.world.put(facts, state.process_token(facts.pid))
        for event in self._signals.pop(container, ()):
            self._signal(facts, event)

    def _set_aside(self, container: str, error: Exception) -> None:
        """Try a container later for which Docker gives no answer: it must not hold up the others."""
        self._metrics.add("docker_errors_total")
        self._once.say("warning", "", "unanswered", str(error), container_id=container[:12])
        if self._lives(container) is False:
            self.world.drop(container)
        self.unanswered.add(container)
        self._later[container] = time.monotonic() + self.config.resync_seconds

    def _signal(self, facts: Facts, event: Event) -> None:
        if self.world.drains.on_signal(facts, event.number, event.sent_at, time.time()):
            log("info", "draining", container=facts.short_id, name=facts.name, signal=event.number)

    def _drop(self, container: str) -> None:
        """Note that a container does not run."""
        self.world.drop(container)
        self.inspector.ignore(container)
        self.unanswered.discard(container)
        self._later.pop(container, None)
        self._signals.pop(container, None)

    def _forget(self, container: str) -> None:
        """Note that a container does not exist any more."""
        self._drop(container)
        self._once.forget(container)
        if self.world.drains.forget(container):
            try:
                self.keep_drained()
            except OSError as error:
                self._once.say("error", "", "drained-not-written", str(error))

    def keep_drained(self) -> None:
        """Write down what an operator drained."""
        state.write(self.config.data_directory, state.DRAINED, self.world.drains.dump_held())

    def _lives(self, container: str) -> bool | None:
        """Return whether a known container's process lives; None when that cannot be seen."""
        token = self.world.tokens.get(container, "")
        return state.process_token(self.world.facts[container].pid) == token if token else None

    # -- complete looks ------------------------------------------------------------------------------------------------

    def look_at_all(self, deep: bool, wait: bool) -> None:
        """Ask for the facts of all containers whose line in Docker's list changed.

        Args:
            deep: ask for all the others, too. After a failure this is always so.
            wait: return when the answers are there, except those of containers for which Docker gives none. Likewise.

        Raises:
            DockerDown: Docker does not answer.
        """
        listed = {str(summary["Id"]): fingerprint(summary) for summary in self.docker.running()}
        if not self.up:
            deep = wait = True
        self.up = True
        self._listed = set(listed)
        remembered = {*self.world.facts, *self.world.seen, *self._later, *self._signals, *self.unanswered}
        for container in remembered - self._listed:
            self.world.drop(container)
            self.unanswered.discard(container)
            self._later.pop(container, None)
            self._signals.pop(container, None)
        asked = set()
        for container, mark in listed.items():
            changed = container not in self.world.facts or self.world.seen.get(container) != mark
            if deep or (changed and container not in self._later):
                self.world.seen[container] = mark
                self.inspector.ask(container)
                asked.add(container)
        if deep:
            # A drained container may have been removed while no one looked.
            for container in set(self.world.drains.held) - self._listed:
                self.inspector.ask(container)
        if wait:
            self._wait_for(asked)

    def _wait_for(self, containers: set[str]) -> None:
        while any(self.inspector.is_asking(container) for container in containers):
            self._beat()
            answer = self._inbox.wait_for_answer(PATIENCE_SECONDS)
            if answer is None:
                break
            self._take(answer)
            if isinstance(answer.error, DockerDown):
                raise answer.error
        for container in containers:
            # No answer so far: what was known of an ended process is wrong.
            if self.inspector.is_asking(container) and self._lives(container) is False:
                self.world.drop(container)

    def look_at_processes(self) -> None:
        """Drop the containers whose processes ended: Docker does not answer, and the others may live on without it."""
        self.up = False
        for container in list(self.world.facts):
            token = self.world.tokens.get(container, "")
            if state.process_token(self.world.facts[container].pid) != token:
                self.world.drop(container)

    def unknown(self) -> set[str]:
        """Return the listed containers of which nothing is known, because Docker has not answered yet."""
        missing = self._listed - set(self.world.facts)
        return {container for container in missing if container in self._later or self.inspector.is_asking(container)}

    def unanswered_names(self) -> list[str]:
        """Return the containers about which Docker gives no answer, by name where that is known."""
        known = self.world.facts
        return sorted(known[key].name if key in known else key[:12] for key in self.unanswered)

    def vouched(self) -> dict[str, tuple[int, str]]:
        """Return the services of the earlier run whose process lives while Docker has not described its container."""
        if self.up and not self.unknown():
            self.protected.clear()
        known = {facts.pid for facts in self.world.facts.values()}
        for service_id, (pid, token) in list(self.protected.items()):
            if pid in known or not token or state.process_token(pid) != token:
                del self.protected[service_id]
        return self.protected

    # -- what is due by time -------------------------------------------------------------------------------------------

    def next_due(self) -> float:
        """Return when to ask again for what was not answered, on the monotonic clock."""
        return min(self._later.values(), default=float("inf")) if self.up else float("inf")

    def ask_due(self) -> None:
        """Ask again for what was not answered."""
        now = time.monotonic()
        for container in [key for key, due in self._later.items() if due <= now] if self.up else ():
            del self._later[container]
            self.inspector.ask(container)
