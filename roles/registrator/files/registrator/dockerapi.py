# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Docker: list, inspect, follow events."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import docker
import docker.errors
import requests
from docker.constants import DEFAULT_DOCKER_API_VERSION

# Only what can change a registration: stop, restart and oom come with one of these, and update changes limits only;
# exec_* alone would wake the engine at every run of every HEALTHCHECK.
EVENTS = (
    "start",
    "die",
    "kill",
    "pause",
    "unpause",
    "destroy",
    "rename",
    "health_status",
    "connect",
    "disconnect",
)

TIMEOUT = 10


class DockerDown(Exception):
    """The engine does not answer."""


class Gone(Exception):
    """The container is no more."""


class Unanswered(Exception):
    """Docker has no answer about one container, or an error: its lock is held, or its data is damaged."""


FAILURES = (DockerDown, Gone, Unanswered)


def fingerprint(summary: Mapping[str, Any]) -> tuple[Any, ...]:
    """What of a container's line in the list can change while its id stays; labels and environment cannot."""
    status = str(summary.get("Status") or "")
    health = status[status.rfind("(") :] if status.endswith(")") else ""
    networks = ((summary.get("NetworkSettings") or {}).get("Networks")) or {}
    return (
        tuple(summary.get("Names") or ()),
        summary.get("State"),
        health,
        tuple(sorted(str(sorted(port.items())) for port in summary.get("Ports") or ())),
        tuple(sorted((name, str((entry or {}).get("IPAddress"))) for name, entry in networks.items())),
    )


def stopped(pid_file: str) -> str:
    """Why Docker does not run, as far as its pid file tells; empty when it runs or there is no file to look at.

    A mere attempt to connect would make systemd's docker.socket start a Docker that an operator has just stopped.
    """
    if not pid_file:
        return ""
    try:
        pid = int(Path(pid_file).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return f"{pid_file} does not exist or cannot be read"
    return "" if Path(f"/proc/{pid}").exists() else f"process {pid} of {pid_file} does not run"


class DockerClient:
    """A thin layer over the distribution's client library, whose failures are those above."""

    def __init__(self, socket: str, pid_file: str = "") -> None:
        self._url = "unix://" + socket
        self._pid_file = pid_file
        self._client: docker.APIClient | None = None

    def _connected(self) -> docker.APIClient:
        reason = stopped(self._pid_file)
        if reason:
            self.close()
            raise DockerDown(reason)
        if self._client is None:
            self._client = docker.APIClient(base_url=self._url, version=self._api_version(), timeout=TIMEOUT)
        return self._client

    def _api_version(self) -> str:
        """The version of the API that Docker speaks, from its answer to a ping.

        The library's own way asks for /version, for which Docker runs three programs: 30 to 170 ms while many
        containers start, for each connection. That way is left for a proxy that lets no ping pass.

        Raises:
            docker.errors.DockerException: Docker does not answer. As from the library, it is not about one container.
        """
        try:
            with contextlib.closing(docker.APIClient(base_url=self._url, version=DEFAULT_DOCKER_API_VERSION, timeout=TIMEOUT)) as client:
                response = client.get(client.base_url + "/_ping", timeout=TIMEOUT)
        except (requests.RequestException, OSError) as error:
            raise docker.errors.DockerException(f"no answer to a ping: {error}") from error
        return str(response.headers.get("Api-Version") or "auto") if response.ok else "auto"

    def _failed(self, error: Exception) -> DockerDown:
        self.close()
        return DockerDown(str(error))

    def close(self) -> None:
        """Forget the connection; the next call makes a new one."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def running(self) -> list[dict[str, Any]]:
        """The list of running containers, paused and restarting ones included."""
        try:
            return list(self._connected().containers())
        except (docker.errors.DockerException, requests.RequestException, OSError, ValueError) as error:
            raise self._failed(error) from error

    def inspect(self, container: str) -> dict[str, Any]:
        """One container's document."""
        try:
            document: dict[str, Any] = self._connected().inspect_container(container)
            return document
        except docker.errors.NotFound as error:
            raise Gone(container) from error
        except (docker.errors.APIError, requests.ReadTimeout) as error:
            # What is wrong with the question, such as a missing right, is wrong for every container.
            if isinstance(error, docker.errors.APIError) and error.is_client_error():
                raise self._failed(error) from error
            self.close()
            raise Unanswered(str(error)) from error
        except (docker.errors.DockerException, requests.RequestException, OSError, ValueError) as error:
            raise self._failed(error) from error

    def events(self, since: str | None) -> Iterator[dict[str, Any]]:
        """Events as they come, beginning with those after ``since``; ends when the engine closes the stream."""
        try:
            yield from self._connected().events(since=since, decode=True, filters={"type": ["container", "network"], "event": list(EVENTS)})
        except (docker.errors.DockerException, requests.RequestException, OSError, ValueError) as error:
            raise self._failed(error) from error
        finally:
            self.close()
