# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes of the catalogue: the calls to the agent that a plan leads to."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Callable

from registrator.checks import host_port
from registrator.config import Config
from registrator.consulapi import ConsulClient, ConsulRefused
from registrator.journal import Once, log
from registrator.metrics import Metrics
from registrator.model import Registration, Verdict
from registrator.plan import Actual, Plan


def client(config: Config) -> ConsulClient:
    """Return a client with the tokens of all services."""
    files = (config.consul_token_file, config.consul_ca_file, config.consul_token_directory)
    return ConsulClient(config.consul_url, *files)


class Catalogue:
    """What the agent holds, and the connection to change it.

    Args:
        config: the configuration.
        metrics: counts what is done.
        once: reports what the agent refuses.
        beat: called before each call.
        look_again: called when a complete comparison is needed soon.
    """

    def __init__(
        self,
        config: Config,
        metrics: Metrics,
        once: Once,
        beat: Callable[[], None],
        look_again: Callable[[], None],
    ) -> None:
        self.config = config
        self.consul = client(config)
        # None while it is not known what the agent holds.
        self.actual: Actual | None = None
        # The token that each service was written with, as the client tells them apart.
        self.credentials: dict[str, str] = {}
        self._metrics = metrics
        self._once = once
        self._beat = beat
        self._look_again = look_again

    def outdated(self, desired: Mapping[str, Registration]) -> set[str]:
        """Return the services that the agent keeps with another token than the present one, or with an unknown one."""
        names = dict.fromkeys(registration.name for registration in desired.values())
        present = {name: self.consul.credential(name) for name in names}
        return {key for key, one in desired.items() if self.credentials.get(key, "") != present[one.name]}

    def apply(self, todo: Plan, actual: Actual) -> bool:
        """Make the calls and note them in ``actual``; return whether nothing is left to be done.

        A refused call does not stop the rest."""
        complete = True
        for service_id in todo.deregister:
            # An adopted one is another program's by intention; all others are checked again.
            if service_id in todo.adopted or not self._is_foreign(service_id, actual):
                complete &= self._deregister(service_id, actual)
        for registration in todo.register:
            complete &= self._register(registration, actual, registration.id in todo.taken_over)
        for registration, verdict in todo.verdicts:
            complete &= self._write_verdict(registration, verdict, actual)
        return complete

    def _register(self, registration: Registration, actual: Actual, taken_over: bool) -> bool:
        begun, service_id = time.monotonic(), registration.id
        if not registration.default_id and self._is_foreign(service_id, actual):
            # The next complete comparison refuses it with its reason.
            self._look_again()
            return True
        held = actual.services.get(service_id)
        # To rename a service in place, a token would need the right on both names; each service's own has it on one.
        if held is not None and held.get("Service") != registration.name and not self._deregister(service_id, actual):
            return False
        if not self._try("register", service_id, registration.container, self.consul.register, registration):
            return False
        actual.record(registration)
        self.credentials[service_id] = self.consul.credential(registration.name)
        self._metrics.add("registered_total")
        log(
            "info",
            "taken-over" if taken_over else "registered",
            id=service_id,
            service=registration.name,
            address=host_port(registration.address, registration.port),
            container=registration.container[:12],
            ms=f"{(time.monotonic() - begun) * 1000:.1f}",
        )
        return True

    def _write_verdict(self, registration: Registration, verdict: Verdict, actual: Actual) -> bool:
        container = registration.container
        if not self._try("check", registration.id, container, self.consul.write, registration, verdict):
            return False
        check = dict(actual.checks.get(verdict.check_id) or {"ServiceID": registration.id})
        check["Status"] = verdict.status
        actual.checks[verdict.check_id] = check
        self._metrics.add("verdicts_total")
        log("info", "check", id=verdict.check_id, status=verdict.status, container=container[:12])
        return True

    def _deregister(self, service_id: str, actual: Actual) -> bool:
        name = str((actual.services.get(service_id) or {}).get("Service") or "")
        if not self._try("deregister", service_id, "", self.consul.deregister, service_id, name):
            return False
        actual.forget(service_id)
        self.credentials.pop(service_id, None)
        self._metrics.add("deregistered_total")
        log("info", "deregistered", id=service_id, service=name)
        return True

    def _is_foreign(self, service_id: str, actual: Actual) -> bool:
        """Return whether another program took this id since the last complete comparison.

        No other program takes ids of registrator's own form."""
        if service_id.startswith(self.config.hostname + ":"):
            return False
        try:
            held = self.consul.service(service_id)
        except ConsulRefused as error:
            self._once.say("error", "", "consul-refused", str(error), id=service_id, action="read")
            return True
        if held is None:
            return False
        actual.services[service_id] = held
        return not actual.is_marked(service_id)

    def _try(self, action: str, service_id: str, container: str, call: Callable[..., None], *arguments: Any) -> bool:
        """Make a call; return whether the agent did not refuse it."""
        self._beat()
        try:
            call(*arguments)
        except ConsulRefused as error:
            self._metrics.add("consul_errors_total")
            self._once.say("error", container, "consul-refused", str(error), id=service_id, action=action)
            return False
        return True
