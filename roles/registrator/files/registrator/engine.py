# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine: compares what should be registered with what is, over and over. Events only say where to look first."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any, Callable

from registrator import state
from registrator.checks import host_port
from registrator.config import Config
from registrator.consulapi import ConsulClient, ConsulDown, ConsulRefused
from registrator.dockerapi import DockerClient, DockerDown, Gone, fingerprint
from registrator.facts import facts_of
from registrator.journal import log
from registrator.metrics import Metrics, serve
from registrator.model import Refusal, Registration
from registrator.notify import notify, watchdog_seconds
from registrator.plan import Actual, Plan, plan
from registrator.world import Event, World, event_of

# How long to wait after the first, second, ... failure of the agent or of Docker.
BACKOFF = (0.1, 0.2, 0.5, 1.0, 2.0)

# While Docker does not answer, the known containers' processes are looked at this often.
DOCKER_DOWN_SECONDS = 1.0

IDLE_SECONDS = 10.0


class Engine:
    """Owns the connections and the loop."""

    def __init__(self, config: Config, metrics: Metrics | None = None) -> None:
        self.config = config
        self.metrics = metrics or Metrics()
        self.world = World(config)
        self.docker = DockerClient(config.docker_socket, config.docker_pid_file)
        self.consul = ConsulClient(config.consul_url, config.consul_token_file, config.consul_ca_file)
        self.actual: Actual | None = None
        self.docker_up = False
        # Named by events and not looked at since; a failed look leaves them here.
        self._dirty: set[str] = set()
        self.protected: dict[str, tuple[int, str]] = {}
        self.queue: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.stopping = threading.Event()
        self._failures = 0
        self._said: dict[tuple[str, str, str], None] = {}
        self._down: dict[str, str] = {}
        self._written: dict[str, Any] = {}
        self._next_full = 0.0
        self._last_sync = 0.0
        self._threads: list[threading.Thread] = []

    # -- looking at Docker ---------------------------------------------------------------------------------------------

    def inspect(self, container: str) -> None:
        """Bring one container's facts up to date."""
        try:
            facts = facts_of(self.docker.inspect(container))
        except Gone:
            self.world.drop(container)
            self._dirty.discard(container)
            return
        self._dirty.discard(container)
        self.world.put(facts, state.process_token(facts.pid))

    def look_at_all(self, deep: bool) -> None:
        """Bring all containers' facts up to date; ``deep`` inspects also those whose line in the list did not change."""
        listed = {str(summary["Id"]): summary for summary in self.docker.running()}
        for container in list(self.world.facts):
            if container not in listed:
                self.world.drop(container)
        for container, summary in listed.items():
            mark = fingerprint(summary)
            if deep or container in self._dirty or container not in self.world.facts or self.world.seen.get(container) != mark:
                self.inspect(container)
                if container in self.world.facts:
                    self.world.seen[container] = mark
                self.beat()
        self._dirty.clear()

    def look_at_dirty(self) -> None:
        """Bring the facts of the containers that events named up to date."""
        for container in list(self._dirty):
            self.inspect(container)

    def look_at_processes(self) -> None:
        """Docker does not answer: its containers may live on without it, so their processes decide."""
        for container, facts in list(self.world.facts.items()):
            if state.process_token(facts.pid) != self.world.tokens.get(container, ""):
                self.world.drop(container)
        for service_id, (pid, token) in list(self.protected.items()):
            if not token or state.process_token(pid) != token:
                del self.protected[service_id]

    # -- changing Consul -----------------------------------------------------------------------------------------------

    def apply(self, todo: Plan, actual: Actual) -> bool:
        """Make the calls and note them in ``actual``; a refused one does not stop the rest. False when something is left to be done."""
        complete = True
        for service_id in todo.deregister:
            if self._is_foreign(service_id, actual):
                continue
            if not self._try("deregister", service_id, "", self.consul.deregister, service_id):
                complete = False
                continue
            actual.forget(service_id)
            self.metrics.add("deregistered_total")
            log("info", "deregistered", id=service_id)
        for registration in todo.register:
            begun = time.monotonic()
            if not registration.default_id and self._is_foreign(registration.id, actual):
                # The next complete comparison refuses it with its reason.
                self._next_full = 0.0
                continue
            if not self._try("register", registration.id, registration.container, self.consul.register, registration):
                complete = False
                continue
            actual.record(registration)
            self.metrics.add("registered_total")
            log(
                "info",
                "taken-over" if registration.id in todo.taken_over else "registered",
                id=registration.id,
                service=registration.name,
                address=host_port(registration.address, registration.port),
                container=registration.container[:12],
                ms=f"{(time.monotonic() - begun) * 1000:.1f}",
            )
        for registration in todo.health:
            if not self._try("health", registration.id, registration.container, self.consul.set_health, registration):
                complete = False
                continue
            check = dict(actual.checks.get(registration.health_check_id) or {"ServiceID": registration.id})
            check["Status"] = registration.health
            actual.checks[registration.health_check_id] = check
            self.metrics.add("health_updates_total")
            log("info", "health", id=registration.id, status=registration.health, container=registration.container[:12])
        return complete

    def _is_foreign(self, service_id: str, actual: Actual) -> bool:
        """Whether somebody else took this id since the last complete comparison. Ids of registrator's own form nobody else takes."""
        if service_id.startswith(self.config.hostname + ":"):
            return False
        try:
            held = self.consul.service(service_id)
        except ConsulRefused as error:
            self._say("error", "", "consul-refused", str(error), id=service_id, action="read")
            return True
        if held is None:
            return False
        actual.services[service_id] = held
        return not actual.is_marked(service_id)

    def _try(self, action: str, service_id: str, container: str, call: Callable[[Any], None], argument: Any) -> bool:
        self.beat()
        try:
            call(argument)
        except ConsulRefused as error:
            self.metrics.add("consul_errors_total")
            self._say("error", container, "consul-refused", str(error), id=service_id, action=action)
            return False
        return True

    # -- passes --------------------------------------------------------------------------------------------------------

    def reconcile(self, full: bool, deep: bool, events: Iterable[Event]) -> None:
        """One comparison. Everything that fails is tried again by a later one."""
        begun = time.monotonic()
        events = list(events)
        # A signal changes nothing that Docker could tell; it counts at once for a container that is known.
        self._dirty.update(event.container for event in events if event.kind != "kill" or event.container not in self.world.facts)
        try:
            if full:
                self.look_at_all(deep)
            else:
                self.look_at_dirty()
            self.docker_up = True
            self.protected.clear()
            self._recovered("docker")
        except DockerDown as error:
            self.docker_up = False
            self.metrics.add("docker_errors_total")
            self._say_down("docker", str(error))
            self.look_at_processes()
        now = time.time()
        for event in events:
            facts = self.world.facts.get(event.container)
            if event.kind == "kill" and facts and self.world.drains.on_signal(facts, event.number, event.sent_at, now):
                log("info", "draining", container=facts.short_id, name=facts.name, signal=event.number)

        try:
            if full or self.actual is None:
                self.actual = self.consul.actual()
            desired, refused = self.world.desired(now)
            todo = plan(desired, self.actual, self.config.hostname, self.config.adopt, self.protected)
            complete = self.apply(todo, self.actual)
            self._recovered("consul")
        except (ConsulDown, ConsulRefused, ValueError) as error:
            # What the agent holds now is not known any more.
            self.actual = None
            self.metrics.add("consul_errors_total")
            self._say_down("consul", str(error))
            self._retry()
            self._publish()
            return

        self._report(refused + todo.refusals)
        if full and complete and self.docker_up:
            self._last_sync = time.time()
            self.metrics.add("syncs_total")
            self.metrics.set("last_sync_timestamp_seconds", self._last_sync)
            self.metrics.set("last_sync_duration_seconds", time.monotonic() - begun)
        if not self.docker_up:
            self._next_full = time.monotonic() + DOCKER_DOWN_SECONDS
        elif not complete:
            self._retry()
        elif full:
            self._failures = 0
            self._next_full = time.monotonic() + self.config.resync_seconds
        self.metrics.set("services", len(desired))
        self._publish(desired)

    def _retry(self) -> None:
        delay = BACKOFF[min(self._failures, len(BACKOFF) - 1)]
        # A refusal that stays (a missing right, say) is asked for again and again, but ever more seldom.
        if self._failures >= 3 * len(BACKOFF):
            delay = self.config.resync_seconds
        self._failures += 1
        self._next_full = min(self._next_full if self._next_full > time.monotonic() else 1e18, time.monotonic() + delay)

    # -- telling -------------------------------------------------------------------------------------------------------

    def _say(self, level: str, container: str, event: str, reason: str, **fields: Any) -> bool:
        """Log something about a container once in its life."""
        key = (container, event, " ".join("{}={}".format(*item) for item in sorted(fields.items())) + reason)
        if key in self._said:
            return False
        self._said[key] = None
        log(level, event, container=container[:12], **fields, reason=reason)
        return True

    def _say_down(self, what: str, reason: str) -> None:
        if what not in self._down:
            log("warning", what + "-down", reason=reason)
        self._down[what] = reason

    def _recovered(self, what: str) -> None:
        if self._down.pop(what, None) is not None:
            log("info", what + "-up")
            self._failures = 0

    def _report(self, refused: list[tuple[str, Refusal]]) -> None:
        for container, refusal in refused:
            facts = self.world.facts.get(container)
            if self._say("warning", container, "refused", refusal.reason, name=facts.name if facts else "", key=refusal.key):
                self.metrics.add("refused_total")
        for facts in self.world.facts.values():
            for warning in self.world.outcome(facts).warnings:
                self._say("warning", facts.id, "warning", warning.reason, name=facts.name, key=warning.key)
        self.metrics.set("refused", len(refused))
        for key in [key for key in self._said if key[0] and key[0] not in self.world.facts]:
            del self._said[key]

    def _publish(self, desired: Mapping[str, Registration] | None = None) -> None:
        """Gauges, systemd's status line, and the files under /run."""
        world = self.world
        self.metrics.set("containers", len(world.facts))
        self.metrics.set("draining", len(world.drains.dump()))
        self.metrics.set("docker_up", self.docker_up)
        self.metrics.set("consul_up", "consul" not in self._down)
        status = {
            "pid": os.getpid(),
            "synced": bool(self._last_sync) and not self._down,
            "down": dict(sorted(self._down.items())),
            "containers": len(world.facts),
            "services": int(self.metrics.get("services")),
            "refused": int(self.metrics.get("refused")),
            "last_sync": self._last_sync,
        }
        self._write(state.STATUS, status)
        if desired is not None and self.docker_up:
            services = {}
            for registration in desired.values():
                facts = world.facts[registration.container]
                services[registration.id] = [facts.pid, world.tokens.get(facts.id, "")]
            self._write(state.STATE, {"services": services, "draining": world.drains.dump()})

    def _write(self, name: str, data: dict[str, Any]) -> None:
        if self._written.get(name) == data:
            return
        try:
            state.write(self.config.state_directory, name, data)
            self._written[name] = data
        except OSError as error:
            self._say("error", "", "state-not-written", str(error))
        if name == state.STATUS:
            down = ", ".join(f"{what} does not answer" for what in data["down"])
            notify(f"STATUS={data['containers']} containers, {data['services']} services{'; ' + down if down else ''}")

    def beat(self) -> None:
        """A sign of life for systemd's watchdog, sent by the thread that does the work."""
        notify("WATCHDOG=1")

    # -- threads -------------------------------------------------------------------------------------------------------

    def _follow_docker(self) -> None:
        """Docker's events -> the queue, for ever. Every (re)connection asks for a complete comparison."""
        client = DockerClient(self.config.docker_socket, self.config.docker_pid_file)
        failures = 0
        since: str | None = None
        while not self.stopping.is_set():
            try:
                self.queue.put(Event("connected"))
                for document in client.events(since):
                    failures = 0
                    nano = document.get("timeNano")
                    if nano:
                        since = "{}.{:09d}".format(*divmod(int(nano) + 1, 1_000_000_000))
                    self.metrics.add("events_total")
                    event = event_of(document)
                    if event:
                        self.queue.put(event)
                self.queue.put(Event("lost"))
            except DockerDown:
                if failures == 0:
                    self.queue.put(Event("lost"))
            self.stopping.wait(BACKOFF[min(failures, len(BACKOFF) - 1)])
            failures += 1

    def _follow_consul(self) -> None:
        """Notice a restart of the agent at once: it may have lost everything."""
        client = ConsulClient(self.config.consul_url, self.config.consul_token_file, self.config.consul_ca_file)
        index = ""
        failures = 0
        while not self.stopping.is_set():
            try:
                index, waited = client.wait_for_loss(index, 60)
                if failures:
                    self.queue.put(Event("agent-back"))
                    failures = 0
                if not index:
                    self.stopping.wait(self.config.resync_seconds)
                elif not waited:
                    self.stopping.wait(0.05)
            except ConsulDown:
                index = ""
                if not failures:
                    self.queue.put(Event("agent-lost"))
                self.stopping.wait(BACKOFF[min(failures, len(BACKOFF) - 1)])
                failures += 1
            except ConsulRefused:
                # Not allowed, or answering with errors while it starts: no matter, the resync is there.
                index = ""
                self.stopping.wait(1.0 if failures else self.config.resync_seconds)

    def load_state(self) -> None:
        """What the engine's former run left. After a reboot there is nothing, and then nothing is vouched for."""
        data = state.read(self.config.state_directory, state.STATE)
        self.world.drains.load(data.get("draining"))
        services = data.get("services")
        for service_id, entry in services.items() if isinstance(services, dict) else ():
            if isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], int) and isinstance(entry[1], str):
                self.protected[service_id] = (entry[0], entry[1])

    def start_threads(self) -> None:
        """Begin to listen."""
        for name, target in (("docker-events", self._follow_docker), ("consul-watch", self._follow_consul)):
            thread = threading.Thread(target=target, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """End the loop soon; what is registered stays, as the containers do."""
        self.stopping.set()
        self.queue.put(Event("stop"))

    def run(self) -> int:
        """Until told to stop. Neither Docker's nor the agent's absence ends it."""
        self.load_state()
        self._publish()
        if self.config.metrics_port:
            try:
                serve(self.metrics, self.config.metrics_port)
            except OSError as error:
                log("error", "metrics-off", port=self.config.metrics_port, reason=str(error))
        self.start_threads()
        notify("READY=1")
        log("info", "started", hostname=self.config.hostname, address=self.config.address, consul=self.config.consul_url)
        pause = min(IDLE_SECONDS, watchdog_seconds() or IDLE_SECONDS)
        while not self.stopping.is_set():
            self.beat()
            if not all(thread.is_alive() for thread in self._threads):
                log("error", "thread-died")
                return 1
            events, everything, deep = self._wait(pause)
            if self.stopping.is_set():
                break
            full = everything or time.monotonic() >= self._next_full
            back = self.world.drains.next_end()
            if full or events or (back is not None and time.time() >= back):
                self.reconcile(full or not self.docker_up or self.actual is None, deep, events)
        log("info", "stopped")
        notify("STOPPING=1")
        return 0

    def _wait(self, pause: float) -> tuple[list[Event], bool, bool]:
        """Wait for a reason to look again; gives the containers' events, and whether to compare everything and to inspect everything."""
        timeout = min(pause, self._next_full - time.monotonic())
        back = self.world.drains.next_end()
        if back is not None:
            timeout = min(timeout, back - time.time())
        received: list[Event] = []
        try:
            received.append(self.queue.get(timeout=max(0.0, timeout)))
            while True:
                received.append(self.queue.get_nowait())
        except queue.Empty:
            pass
        deep = any(event.kind == "connected" for event in received)
        everything = any(not event.container for event in received)
        return [event for event in received if event.container], everything, deep
