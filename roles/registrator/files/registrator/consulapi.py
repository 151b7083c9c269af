# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The local Consul agent: its services and checks."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests

from registrator.consulsocket import SocketAdapter
from registrator.model import Registration, Verdict
from registrator.plan import Actual

TIMEOUT = 5.0
SOCKET = "unix://"


class ConsulDown(Exception):
    """The agent does not answer."""


class ConsulRefused(Exception):
    """The agent answered, but not with success."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class ConsulClient:
    """One kept-alive connection to the agent.

    A service whose name is the name of a file in ``token_directory`` is written with the token in it, everything else with that of ``token_file``.
    """

    def __init__(self, url: str, token_file: str = "", ca_file: str = "", token_directory: str = "") -> None:
        self._socket = url[len(SOCKET) :] if url.startswith(SOCKET) else ""
        self._url = "http://localhost" if self._socket else url.rstrip("/")
        self._token_file = token_file
        self._token_directory = token_directory
        self._ca_file = ca_file
        self._session = self._new_session()

    def _new_session(self) -> requests.Session:
        session = requests.Session()
        # Neither a proxy nor a netrc of the environment belongs between the engine and its local agent.
        session.trust_env = False
        if self._socket:
            session.mount("http://", SocketAdapter(self._socket))
        if self._ca_file:
            session.verify = self._ca_file
        return session

    def close(self) -> None:
        """Drop the connection; the next call makes a new one. Also used to end a call that waits in another thread."""
        self._session.close()

    def headers(self, service: str) -> dict[str, str]:
        """The token for one service's calls, or for those that belong to none. Read at each call, so that a new one needs no restart."""
        files = [self._token_file] if self._token_file else []
        # A name with a slash or a dot in front is no service of the engine's, so it leads to no file elsewhere.
        if self._token_directory and service and "/" not in service and not service.startswith("."):
            files.insert(0, f"{self._token_directory}/{service}")
        for path in files:
            try:
                return {"X-Consul-Token": Path(path).read_text(encoding="utf-8").strip()}
            except FileNotFoundError as error:
                if path == self._token_file:
                    raise ConsulRefused(f"the token file {path} does not exist") from error
            except OSError as error:
                raise ConsulRefused(f"the token file {path} cannot be read: {error.strerror}") from error
        return {}

    def credential(self, service: str) -> str:
        """Tells the tokens of one service apart without telling them; empty without a token."""
        token = self.headers(service).get("X-Consul-Token", "")
        return hashlib.sha256(token.encode()).hexdigest()[:16] if token else ""

    def _call(self, method: str, path: str, body: Any = None, timeout: float = TIMEOUT, service: str = "") -> requests.Response:
        headers = self.headers(service)
        data = None if body is None else json.dumps(body).encode()
        try:
            response = self._session.request(method, self._url + path, data=data, headers=headers, timeout=timeout, allow_redirects=False)
        except (requests.RequestException, OSError) as error:
            self._session.close()
            raise ConsulDown(str(error)) from error
        if response.status_code != 200:
            raise ConsulRefused(f"{method} {path.split('?')[0]}: {response.status_code} {response.text.strip()[:300]}", response.status_code)
        return response

    def actual(self) -> Actual:
        """Everything that the agent holds, whoever made it."""
        services = self._call("GET", "/v1/agent/services").json()
        checks = self._call("GET", "/v1/agent/checks").json()
        return Actual(dict(services), dict(checks))

    def service(self, service_id: str) -> Any:
        """One service as the agent holds it now; None when it does not."""
        try:
            return self._call("GET", "/v1/agent/service/" + quote(service_id, safe="")).json()
        except ConsulRefused as error:
            if error.status == 404:
                return None
            raise

    def register(self, registration: Registration) -> None:
        """Make or replace one service with exactly these checks."""
        self._call("PUT", "/v1/agent/service/register?replace-existing-checks=true", registration.payload(), service=registration.name)

    def deregister(self, service_id: str, name: str) -> None:
        """Remove one service, which has this name; an unknown one is no error."""
        try:
            self._call("PUT", "/v1/agent/service/deregister/" + quote(service_id, safe=""), service=name)
        except ConsulRefused as error:
            if error.status != 404:
                raise

    def write(self, registration: Registration, verdict: Verdict) -> None:
        """Set the status of a check that the engine itself decides."""
        path = "/v1/agent/check/update/" + quote(verdict.check_id, safe="")
        self._call("PUT", path, {"Status": verdict.status, "Output": verdict.output}, service=registration.name)

    def deregister_check(self, check_id: str, name: str) -> None:
        """Remove one check of a service, which has this name; an unknown one is no error."""
        try:
            self._call("PUT", "/v1/agent/check/deregister/" + quote(check_id, safe=""), service=name)
        except ConsulRefused as error:
            if error.status != 404:
                raise

    def wait_for_loss(self, index: str, seconds: int) -> tuple[str, bool]:
        """Wait at the agent until it goes away: a long poll for user events that costs the agent nothing.

        Returns the index for the next call and whether the agent really waited.
        """
        path = f"/v1/event/list?name=registrator&wait={seconds}s"
        response = self._call("GET", path + ("&index=" + index if index else ""), timeout=seconds * 1.2 + TIMEOUT)
        found: str | None = response.headers.get("X-Consul-Index")
        return found or "", bool(found) and bool(index)
