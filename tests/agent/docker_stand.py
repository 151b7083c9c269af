# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers with recorded documents in Docker's place, to do what that does not do on request: hold a container's lock."""

from __future__ import annotations

import copy
import json
import queue
import re
import socketserver
import subprocess
import threading
import time
import typing as t
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, urlparse

DATA = Path(__file__).resolve().parents[1] / "unit" / "roles" / "registrator" / "data" / "20.10"
LONGEST_SECONDS = 60


class Stand:
    """Containers with a real process each, behind a socket that speaks Docker's API."""

    def __init__(self, socket: Path) -> None:
        self.documents: dict[str, dict[str, t.Any]] = {}
        # How often each container was inspected, and the answers that wait.
        self.inspected: list[str] = []
        self.broken: set[str] = set()
        # Every path with its query.
        self.asked: list[str] = []
        # What a ping gets: "version" of the API, "bare" (no version), "forbidden" or "no answer".
        self.ping = "version"
        # As a socket proxy that allows the list and no document.
        self.forbidden = False
        # From when on each follower wants the events.
        self.since: list[str] = []
        self._locks: dict[str, threading.Event] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._followers: list[tuple[set[str], queue.SimpleQueue[bytes]]] = []
        self._server = _Server(str(socket), _Handler)
        self._server.stand = self
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """End all processes and the server."""
        for container in list(self._locks):
            self.unlock(container)
        for container in list(self._processes):
            self.end(container)
        self._server.shutdown()
        self._server.server_close()

    # -- containers ----------------------------------------------------------------------------------------------------

    def run(self, name: str, port: int, *, address: str = "172.17.0.2", **labels: str) -> str:
        """Let a container run, without an event; returns its id."""
        container = name.encode().hex().ljust(64, "0")
        document = json.loads((DATA / "published.json").read_text(encoding="utf-8"))
        process = self._processes[container] = subprocess.Popen(["sleep", "600"])
        started = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + f"{time.time() % 1:.9f}"[1:] + "Z"
        document["Id"], document["Name"] = container, f"/{name}"
        document["Config"]["Labels"] = {"SERVICE_NAME": name, **labels}
        document["State"].update(Pid=process.pid, StartedAt=started)
        document["NetworkSettings"].pop("IPAddress")
        document["NetworkSettings"]["Ports"] = {"8081/tcp": [{"HostIp": "0.0.0.0", "HostPort": str(port)}]}
        document["NetworkSettings"]["Networks"] = {"bridge": {"IPAddress": address, "GlobalIPv6Address": ""}}
        self.documents[container] = document
        return container

    def end(self, container: str) -> None:
        """End a container's process, without an event."""
        process = self._processes.pop(container, None)
        if process is not None:
            process.kill()
            process.wait(10)
        self.documents[container]["State"].update(Running=False, Pid=0)

    def lock(self, container: str) -> None:
        """Let every inspection of a container wait."""
        self._locks[container] = threading.Event()

    def unlock(self, container: str) -> None:
        """Answer the inspections that wait."""
        self._locks.pop(container).set()

    def tell(self, action: str, container: str, **attributes: str) -> None:
        """Send an event to all that follow."""
        nano = time.time_ns()
        kind, actor = "container", {"ID": container, "Attributes": attributes}
        if action in ("connect", "disconnect"):
            kind, actor = "network", {"ID": "f" * 64, "Attributes": {"container": container}}
        event = {"Type": kind, "Action": action, "Actor": actor}
        line = json.dumps({**event, "time": nano // 10**9, "timeNano": nano}).encode() + b"\n"
        for actions, lines in list(self._followers):
            if action in actions:
                lines.put(line)

    # -- answers -------------------------------------------------------------------------------------------------------

    def inspect(self, container: str) -> tuple[int, t.Any]:
        """One container's document as it is when the question arrives, given when the lock is free."""
        # A prefix will do, as in Docker.
        container = next((key for key in self.documents if key.startswith(container)), container)
        document = copy.deepcopy(self.documents.get(container))
        self.inspected.append(container)
        lock = self._locks.get(container)
        if lock is not None:
            lock.wait(LONGEST_SECONDS)
        if self.forbidden:
            return 403, {"message": "Forbidden"}
        if container in self.broken:
            return 500, {"message": "layer not found"}
        return (200, document) if document is not None else (404, {"message": f"No such container: {container}"})

    def listed(self) -> list[dict[str, t.Any]]:
        """The list of running containers."""
        return [
            {"Id": key, "Names": [found["Name"]], "State": "running", "Status": "Up 1 second", "Ports": []}
            for key, found in list(self.documents.items())
            if found["State"]["Running"]
        ]

    def follow(self, actions: set[str]) -> t.Iterator[bytes]:
        """The events of these kinds from now on."""
        lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._followers.append((actions, lines))
        while True:
            yield lines.get()

    @property
    def followed(self) -> bool:
        """Whether anyone follows the events."""
        return bool(self._followers)


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    stand: Stand

    def handle_error(self, request: t.Any, client_address: t.Any) -> None:
        """Print nothing when a client left before its answer."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        stand = t.cast(_Server, self.server).stand
        path = re.sub(r"^/v[0-9.]+", "", urlparse(self.path).path)
        stand.asked.append(self.path)
        if path == "/version":
            self._answer(200, {"ApiVersion": "1.41", "MinAPIVersion": "1.12", "Version": "20.10.24"})
        elif path == "/_ping":
            if stand.ping == "no answer":
                time.sleep(LONGEST_SECONDS)
            status = 403 if stand.ping == "forbidden" else 200
            self._answer(status, "OK", {"Api-Version": "1.41"} if stand.ping == "version" else {})
        elif path == "/containers/json":
            self._answer(200, stand.listed())
        elif path == "/events":
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            query = parse_qs(urlparse(self.path).query)
            stand.since += query.get("since", [""])
            filters = json.loads(query["filters"][0])
            for line in stand.follow(set(filters["event"])):
                self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
        else:
            self._answer(*stand.inspect(path.split("/")[2]))

    def _answer(self, status: int, body: t.Any, headers: t.Mapping[str, str] | None = None) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)

    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *args: t.Any) -> None:
        """Print nothing."""
