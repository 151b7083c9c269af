# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine: compares what should be registered with what is, over and over. Events only say where to look first."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any, Callable

from registrator import state
from registrator.checks import host_port
from registrator.config import Config
from registrator.consulapi import ConsulClient, ConsulDown, ConsulRefused
from registrator.control import Request, listen
from registrator.dockerapi import DockerClient, DockerDown
from registrator.inbox import Inbox, Item
from registrator.inspector import Answer
from registrator.journal import Once, log
from registrator.metrics import Metrics, serve
from registrator.model import Facts, Refusal, Registration
from registrator.notify import notify, watchdog_seconds
from registrator.observer import DOCKER_DOWN_SECONDS, Observer
from registrator.plan import Actual, Plan, plan
from registrator.world import Event, Unknown, World, event_of

# How long to wait after the first, second, ... failure of the agent or of Docker.
BACKOFF = (0.1, 0.2, 0.5, 1.0, 2.0)

IDLE_SECONDS = 10.0

# How long Docker's start waits at most, after a start of the host, for what ran before to leave the catalogue.
READY_LATEST_SECONDS = 20.0


class Engine:
    """Owns the connections and the loop."""

    def __init__(self, config: Config, metrics: Metrics | None = None) -> None:
        self.config = config
        self.metrics = metrics or Metrics()
        self.world = World(config)
        self.inbox = Inbox()
        self.once = Once()
        self.observer = Observer(config, self.world, self.inbox, self.metrics, self.once, self.beat)
        self.consul = ConsulClient(config.consul_url, config.consul_token_file, config.consul_ca_file, config.consul_token_directory)
        self.actual: Actual | None = None
        # Which token each service was written with, as the client tells them apart.
        self.credentials: dict[str, str] = {}
        self.stopping = threading.Event()
        self._failures = 0
        self._down: dict[str, str] = {}
        self._written: dict[str, Any] = {}
        self._next_full = 0.0
        self._last_sync = 0.0
        # Nobody has been told yet that the engine is ready; from when on it is told in any case.
        self._ready_latest: float | None = None
        self._cleared = False
        self._threads: list[threading.Thread] = []

    # -- changing Consul -----------------------------------------------------------------------------------------------

    def apply(self, todo: Plan, actual: Actual) -> bool:
        """Make the calls and note them in ``actual``; a refused one does not stop the rest. False when something is left to be done."""
        complete = True
        for service_id in todo.deregister:
            # An adopted one is somebody else's by intention; of all others it is asked again.
            if service_id not in todo.adopted and self._is_foreign(service_id, actual):
                continue
            complete &= self._deregister(service_id, actual)
        for registration in todo.register:
            begun = time.monotonic()
            if not registration.default_id and self._is_foreign(registration.id, actual):
                # The next complete comparison refuses it with its reason.
                self._next_full = 0.0
                continue
            held = actual.services.get(registration.id)
            # To rename a service in place, a token would need the right on both names; each service's own has it on one.
            if held is not None and held.get("Service") != registration.name and not self._deregister(registration.id, actual):
                complete = False
                continue
            if not self._try("register", registration.id, registration.container, self.consul.register, registration):
                complete = False
                continue
            actual.record(registration)
            self.credentials[registration.id] = self.consul.credential(registration.name)
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
        for registration, verdict in todo.verdicts:
            if not self._try("check", registration.id, registration.container, self.consul.write, registration, verdict):
                complete = False
                continue
            check = dict(actual.checks.get(verdict.check_id) or {"ServiceID": registration.id})
            check["Status"] = verdict.status
            actual.checks[verdict.check_id] = check
            self.metrics.add("verdicts_total")
            log("info", "check", id=verdict.check_id, status=verdict.status, container=registration.container[:12])
        return complete

    def _deregister(self, service_id: str, actual: Actual) -> bool:
        name = str((actual.services.get(service_id) or {}).get("Service") or "")
        if not self._try("deregister", service_id, "", self.consul.deregister, service_id, name):
            return False
        actual.forget(service_id)
        self.credentials.pop(service_id, None)
        self.metrics.add("deregistered_total")
        log("info", "deregistered", id=service_id, service=name)
        return True

    def _outdated(self, desired: Mapping[str, Registration]) -> set[str]:
        """Services that the agent keeps with another token than the present one, or nobody knows with which."""
        present: dict[str, str] = {}
        for registration in desired.values():
            if registration.name not in present:
                present[registration.name] = self.consul.credential(registration.name)
        return {service_id for service_id, registration in desired.items() if self.credentials.get(service_id, "") != present[registration.name]}

    def _is_foreign(self, service_id: str, actual: Actual) -> bool:
        """Whether somebody else took this id since the last complete comparison. Ids of registrator's own form nobody else takes."""
        if service_id.startswith(self.config.hostname + ":"):
            return False
        try:
            held = self.consul.service(service_id)
        except ConsulRefused as error:
            self.once.say("error", "", "consul-refused", str(error), id=service_id, action="read")
            return True
        if held is None:
            return False
        actual.services[service_id] = held
        return not actual.is_marked(service_id)

    def _try(self, action: str, service_id: str, container: str, call: Callable[..., None], *arguments: Any) -> bool:
        self.beat()
        try:
            call(*arguments)
        except ConsulRefused as error:
            self.metrics.add("consul_errors_total")
            self.once.say("error", container, "consul-refused", str(error), id=service_id, action=action)
            return False
        return True

    # -- passes --------------------------------------------------------------------------------------------------------

    def reconcile(self, full: bool, deep: bool, items: Iterable[Item], adopt: bool = False) -> Plan | None:
        """Compare once and write the differences; what fails is tried again by a later comparison.

        Returns:
            What there was to be done; None when the agent did not answer.
        """
        begun = time.monotonic()
        observer = self.observer
        observer.receive(items)
        if full:
            try:
                # After a new connection, and before anything of others is removed, nothing may be missing.
                observer.look_at_all(deep, wait=deep or adopt)
                self._recovered("docker")
            except DockerDown as error:
                self.metrics.add("docker_errors_total")
                self._say_down("docker", str(error))
                observer.look_at_processes()
        # Before the agent is asked: what is due by time must not stay due while the agent is away.
        desired, refused = self.world.desired(time.time())

        try:
            if full or self.actual is None:
                self.actual = self.consul.actual()
            # What others registered is removed only while it is known which containers run.
            adopt = (self.config.adopt or adopt) and observer.up and not observer.unknown()
            outdated = self._outdated(desired) if full else ()
            todo = plan(desired, self.actual, self.config.hostname, adopt, observer.vouched(), outdated)
            complete = self.apply(todo, self.actual)
            self._cleared = not any(service_id in self.actual.services for service_id in todo.deregister)
            self._recovered("consul")
        except (ConsulDown, ConsulRefused, ValueError) as error:
            # What the agent holds now is not known any more.
            self.actual = None
            self.metrics.add("consul_errors_total")
            self._say_down("consul", str(error))
            # Whoever is away is asked often: what the catalogue has of before leads to other containers meanwhile.
            self._retry(BACKOFF[-1])
            self._publish()
            return None

        self._report(refused + todo.refusals)
        if full and complete and observer.up:
            self._last_sync = time.time()
            self.metrics.add("syncs_total")
            self.metrics.set("last_sync_timestamp_seconds", self._last_sync)
            self.metrics.set("last_sync_duration_seconds", time.monotonic() - begun)
        if not observer.up:
            self._next_full = time.monotonic() + DOCKER_DOWN_SECONDS
        elif not complete:
            self._retry()
        elif full:
            self._failures = 0
            self._next_full = time.monotonic() + self.config.resync_seconds
        self.metrics.set("services", len(desired))
        self._publish(desired)
        return todo

    # -- orders of an operator -----------------------------------------------------------------------------------------

    def obey(self, requests: list[Request], items: list[Item], full: bool, deep: bool) -> None:
        """One comparison that also carries out orders, and their answers."""
        orders: list[tuple[Request, Facts | None, str]] = []
        for request in requests:
            try:
                orders.append((request, *self._take(request)))
            except (Unknown, DockerDown, OSError) as error:
                request.answer(False, str(error))
        adopt = any(request.order == "adopt" for request, _facts, _text in orders)
        todo = self.reconcile(full or adopt or self.actual is None or not self.observer.up, deep, items, adopt)
        for request, facts, text in orders:
            actual = self.actual
            if todo is None or actual is None:
                request.answer(False, f"{text}, as soon as the Consul agent answers: {self._down.get('consul', '')}")
            elif request.order == "adopt":
                failed = [service_id for service_id in todo.adopted if service_id in actual.services]
                unknown = ", ".join(sorted(container[:12] for container in self.observer.unknown()))
                if not self.observer.up:
                    request.answer(False, f"nothing was removed, because Docker does not answer: {self._down.get('docker', '')}")
                elif unknown:
                    reason = f"because Docker gives no answer about {unknown}: see `docker inspect`"
                    request.answer(False, f"nothing was removed, {reason}")
                elif failed:
                    request.answer(False, f"Consul did not let go of {', '.join(failed)}; see `journalctl -u registrator`")
                else:
                    request.answer(True, "\n".join(["removed " + service_id for service_id in todo.adopted] or ["nothing was left behind"]))
            else:
                ids = [item.id for item in self.world.outcome(facts, time.time()).registrations] if facts else []
                failed = [service_id for service_id in ids if actual.is_marked(service_id) is (request.order == "drain")]
                if failed:
                    request.answer(False, f"{text}, but Consul refused {', '.join(failed)}; see `journalctl -u registrator`")
                else:
                    request.answer(True, f"{text}: {', '.join(ids) or 'it has no service'}")

    def _take(self, request: Request) -> tuple[Facts | None, str]:
        """Note one order, so that the comparison carries it out; returns the container as far as it runs, and what is to be said."""
        drains = self.world.drains
        if request.order == "adopt":
            return None, "what another registrator left behind is removed"
        try:
            facts: Facts | None = self.world.find(request.container)
        except Unknown:
            if request.order == "drain":
                # It may have been started a moment ago.
                self.observer.look_at_all(deep=False, wait=True)
                facts = self.world.find(request.container)
            else:
                facts = None
        before = dict(drains.held)
        if request.order == "drain" and facts is not None:
            drains.hold(facts, time.time())
            name, text = facts.name, "is out of service"
        else:
            found = [facts.id] if facts is not None and facts.id in drains.held else drains.find_held(request.container)
            if len(found) != 1:
                raise Unknown(f"{'several drained containers have' if found else 'no drained container has'} the name or id {request.container}")
            name, text = drains.held[found[0]].name, "is in service"
            facts = self.world.facts.get(found[0])
            drains.forget(found[0])
        try:
            # Before it is acted on: it must outlive the engine and the host's boot.
            self.observer.keep_drained()
        except OSError:
            drains.held = before
            raise
        log("info", request.order + "ed", container=facts.short_id if facts else "", name=name)
        return facts, f"container {name} {text}"

    def _retry(self, longest: float | None = None) -> None:
        delay = BACKOFF[min(self._failures, len(BACKOFF) - 1)]
        # A refusal that stays (a missing right, say) is asked for again and again, but ever more seldom.
        if self._failures >= 3 * len(BACKOFF):
            delay = self.config.resync_seconds if longest is None else longest
        self._failures += 1
        self._next_full = min(self._next_full if self._next_full > time.monotonic() else 1e18, time.monotonic() + delay)

    # -- telling -------------------------------------------------------------------------------------------------------

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
            about = {"name": facts.name if facts else "", "key": refusal.key, "kind": refusal.kind}
            if self.once.say("warning", container, "refused", refusal.reason, **about):
                self.metrics.add("refused_total")
        for facts in self.world.facts.values():
            for warning in self.world.outcome(facts, time.time()).warnings:
                about = {"name": facts.name, "key": warning.key, "kind": warning.kind}
                self.once.say("warning", facts.id, "warning", warning.reason, **about)
        self.metrics.set("refused", len(refused))

    def _publish(self, desired: Mapping[str, Registration] | None = None) -> None:
        """Gauges, systemd's status line, and the files under /run."""
        world = self.world
        self.metrics.set("containers", len(world.facts))
        self.metrics.set("draining", len(world.drains.dump()))
        self.metrics.set("drained", len(world.drains.held))
        self.metrics.set("unanswered", len(self.observer.unanswered))
        self.metrics.set("docker_up", self.observer.up)
        self.metrics.set("consul_up", "consul" not in self._down)
        status = {
            "pid": os.getpid(),
            "synced": bool(self._last_sync) and not self._down,
            "down": dict(sorted(self._down.items())),
            "containers": len(world.facts),
            "services": int(self.metrics.get("services")),
            "refused": int(self.metrics.get("refused")),
            "drained": sorted(world.facts[key].name if key in world.facts else held.name for key, held in world.drains.held.items()),
            "unanswered": self.observer.unanswered_names(),
            "last_sync": self._last_sync,
        }
        self._write(state.STATUS, status)
        if desired is not None and self.observer.up:
            services = {}
            for registration in desired.values():
                facts = world.facts[registration.container]
                services[registration.id] = [facts.pid, world.tokens.get(facts.id, "")]
            credentials = {service_id: credential for service_id, credential in self.credentials.items() if credential and service_id in services}
            self._write(state.STATE, {"services": services, "draining": world.drains.dump(), "credentials": credentials})

    def _write(self, name: str, data: dict[str, Any]) -> None:
        if self._written.get(name) == data:
            return
        try:
            state.write(self.config.state_directory, name, data)
            self._written[name] = data
        except OSError as error:
            self.once.say("error", "", "state-not-written", str(error))
        if name == state.STATUS:
            down = ", ".join(f"{what} does not answer" for what in data["down"])
            notify(f"STATUS={data['containers']} containers, {data['services']} services{'; ' + down if down else ''}")

    def beat(self) -> None:
        """A sign of life for systemd, sent by the thread that does the work. With a slow agent, one pass may take minutes."""
        notify("WATCHDOG=1")
        self._say_ready()

    # -- threads -------------------------------------------------------------------------------------------------------

    def _follow_docker(self) -> None:
        """Docker's events -> the queue, for ever. Every (re)connection asks for a complete comparison."""
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
        self.world.drains.load_held(state.read(self.config.data_directory, state.DRAINED))
        credentials = data.get("credentials")
        if isinstance(credentials, dict):
            self.credentials = {str(service_id): credential for service_id, credential in credentials.items() if isinstance(credential, str)}
        services = data.get("services")
        for service_id, entry in services.items() if isinstance(services, dict) else ():
            if isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], int) and isinstance(entry[1], str):
                self.observer.protected[service_id] = (entry[0], entry[1])

    def start_threads(self) -> None:
        """Begin to listen."""
        for name, target in (("docker-events", self._follow_docker), ("consul-watch", self._follow_consul)):
            thread = threading.Thread(target=target, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """End the loop soon; what is registered stays, as the containers do."""
        self.stopping.set()
        self.inbox.put(Event("stop"))

    def run(self) -> int:
        """Until told to stop. Neither Docker's nor the agent's absence ends it."""
        try:
            state.lock(self.config.state_directory)
        except state.AlreadyRuns:
            log("error", "already-runs", directory=self.config.state_directory)
            return 1
        except OSError as error:
            log("error", "not-locked", reason=str(error))
            return 1
        self.load_state()
        self._publish()
        if self.config.metrics_port:
            try:
                serve(self.metrics, self.config.metrics_port)
            except OSError as error:
                log("error", "metrics-off", port=self.config.metrics_port, reason=str(error))
        try:
            listen(self.config.state_directory, self.config.docker_socket, self.inbox.put)
        except OSError as error:
            log("error", "control-off", reason=str(error))
        self.start_threads()
        self._ready_latest = time.monotonic() + READY_LATEST_SECONDS
        log("info", "started", hostname=self.config.hostname, address=self.config.address, consul=self.config.consul_url)
        pause = min(IDLE_SECONDS, watchdog_seconds() or IDLE_SECONDS)
        while not self.stopping.is_set():
            self.beat()
            if not (self.observer.inspector.is_alive() and all(thread.is_alive() for thread in self._threads)):
                log("error", "thread-died")
                return 1
            batch = self._wait(pause)
            if self.stopping.is_set():
                break
            requests = [item for item in batch if isinstance(item, Request)]
            # What names no container is a reason to look at all of them; after a new connection even at those whose line in the list is the same.
            full = any(isinstance(item, Event) and not item.container for item in batch) or time.monotonic() >= self._next_full
            deep = any(isinstance(item, Event) and item.kind == "connected" for item in batch)
            if batch and not (full or self.observer.up) and all(isinstance(item, Answer) for item in batch):
                # What failed together with Docker; the next look asks for it again.
                self.observer.receive(batch)
            elif full or batch or time.time() >= self.world.next_change():
                self.obey(requests, batch, full, deep)
        log("info", "stopped")
        notify("STOPPING=1")
        return 0

    def _say_ready(self) -> None:
        """Tell systemd, which starts Docker then: its containers get ports that what ran before may have had."""
        if self._ready_latest is None or not (self._cleared or time.monotonic() >= self._ready_latest):
            return
        if not self._cleared:
            down = "; ".join(self._down.values()) or "see the lines before"
            log("error", "not-cleared", seconds=f"{READY_LATEST_SECONDS:g}", reason=f"what ran before may still be in the catalogue: {down}")
        self._ready_latest = None
        notify("READY=1")

    def _wait(self, pause: float) -> list[Item]:
        """Wait for a reason to look again, and return all that arrived meanwhile."""
        self.observer.ask_due()
        due = min(self._next_full, self.observer.next_due()) - time.monotonic()
        if self._ready_latest is not None:
            due = min(due, self._ready_latest - time.monotonic())
        return self.inbox.wait(min(pause, due, self.world.next_change() - time.time()))
