# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two threads that say when to look again: one follows Docker's events, one the agent's restarts."""

from __future__ import annotations

import threading
import time

from registrator.backoff import delay
from registrator.config import Config
from registrator.consulapi import ConsulClient, ConsulDown, ConsulRefused
from registrator.dockerapi import DockerClient, DockerDown
from registrator.inbox import Inbox
from registrator.metrics import Metrics
from registrator.world import Event, event_of


class Followers:
    """The threads, which end when ``stopping`` is set."""

    def __init__(self, config: Config, inbox: Inbox, metrics: Metrics, stopping: threading.Event) -> None:
        self.config = config
        self.inbox = inbox
        self.metrics = metrics
        self.stopping = stopping
        targets = (("docker-events", self._follow_docker), ("consul-watch", self._follow_consul))
        self._threads = [threading.Thread(target=target, name=name, daemon=True) for name, target in targets]

    def start(self) -> None:
        """Begin to follow."""
        for thread in self._threads:
            thread.start()

    def are_alive(self) -> bool:
        """Return whether both threads run."""
        return all(thread.is_alive() for thread in self._threads)

    def _follow_docker(self) -> None:
        """Put Docker's events into the queue. Each (re)connection asks for a complete comparison."""
        client = DockerClient(self.config.docker_socket, self.config.docker_pid_file)
        failures = 0
        # From before the first complete comparison: what starts while the stream is being opened is not missed.
        since = f"{time.time():.9f}"
        while not self.stopping.is_set():
            try:
                self.inbox.put(Event("connected"))
                for document in client.events(since):
                    failures = 0
                    nano = document.get("timeNano")
                    if nano:
                        since = "{}.{:09d}".format(*divmod(int(nano) + 1, 1_000_000_000))
                    self.metrics.add("events_total")
                    event = event_of(document)
                    if event:
                        self.inbox.put(event)
                self.inbox.put(Event("lost"))
            except DockerDown:
                if failures == 0:
                    self.inbox.put(Event("lost"))
            self.stopping.wait(delay(failures))
            failures += 1

    def _follow_consul(self) -> None:
        """Notice a restart of the agent at once: it may have lost everything."""
        client = ConsulClient(self.config.consul_url, self.config.consul_token_file, self.config.consul_ca_file)
        index, failures = "", 0
        while not self.stopping.is_set():
            try:
                index, waited = client.wait_for_loss(index, 60)
                if failures:
                    self.inbox.put(Event("agent-back"))
                    failures = 0
                if not index:
                    self.stopping.wait(self.config.resync_seconds)
                elif not waited:
                    self.stopping.wait(0.05)
            except ConsulDown:
                index = ""
                if not failures:
                    self.inbox.put(Event("agent-lost"))
                self.stopping.wait(delay(failures))
                failures += 1
            except ConsulRefused:
                # Not allowed, or answering with errors while it starts: the periodic comparison covers it.
                index = ""
                self.stopping.wait(1.0 if failures else self.config.resync_seconds)
