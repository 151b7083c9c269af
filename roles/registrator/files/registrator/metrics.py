# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Counters and gauges, and the loopback page that shows them in Prometheus' text form."""

from __future__ import annotations

import socketserver
import threading

_LONGEST_LINE = 8192
_MOST_HEADERS = 100

_HELP: dict[str, tuple[str, str]] = {
    "containers": ("gauge", "Running containers."),
    "services": ("gauge", "Registrations that this engine keeps."),
    "draining": ("gauge", "Containers that were told to stop and still run."),
    "drained": ("gauge", "Containers that an operator took out of service."),
    "refused": ("gauge", "Values on running containers that are refused at present."),
    "unanswered": ("gauge", "Containers about which Docker gives no answer, though it answers about others."),
    "docker_up": ("gauge", "Whether Docker answered the last time."),
    "consul_up": ("gauge", "Whether the Consul agent answered the last time."),
    "last_sync_timestamp_seconds": ("gauge", "When the last complete comparison succeeded."),
    "last_sync_duration_seconds": ("gauge", "How long the last complete comparison took."),
    "syncs_total": ("counter", "Complete comparisons."),
    "events_total": ("counter", "Docker events seen."),
    "registered_total": ("counter", "Registrations written."),
    "deregistered_total": ("counter", "Registrations removed."),
    "verdicts_total": ("counter", "Changes of a check written: Docker's health, the end of a warm-up."),
    "refused_total": ("counter", "Values on containers that were refused, each counted once."),
    "consul_errors_total": ("counter", "Failed calls to the Consul agent."),
    "docker_errors_total": ("counter", "Failed calls to Docker."),
}


class Metrics:
    """The numbers; safe to read while they change."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[str, float] = dict.fromkeys(_HELP, 0.0)

    def add(self, name: str, amount: float = 1.0) -> None:
        """Raise a counter."""
        with self._lock:
            self._values[name] += amount

    def set(self, name: str, value: float) -> None:
        """Set a gauge."""
        with self._lock:
            self._values[name] = float(value)

    def get(self, name: str) -> float:
        """One number."""
        with self._lock:
            return self._values[name]

    def text(self) -> str:
        """All numbers in Prometheus' text form."""
        lines = []
        with self._lock:
            for name, (kind, text) in _HELP.items():
                lines += [f"# HELP registrator_{name} {text}", f"# TYPE registrator_{name} {kind}"]
                lines.append("registrator_{} {}".format(name, repr(self._values[name]).removesuffix(".0")))
        return "\n".join(lines) + "\n"


class _Handler(socketserver.StreamRequestHandler):
    """Answer one request. http.server would do it too, and keep a table of all HTML entities in memory."""

    timeout = 5
    server: _Server

    def handle(self) -> None:
        """Read the request and write the answer."""
        try:
            method, target = [*self.rfile.readline(_LONGEST_LINE).split(), b"", b""][:2]
            for _line in range(_MOST_HEADERS):
                if self.rfile.readline(_LONGEST_LINE) in (b"", b"\r\n", b"\n"):
                    break
            self.wfile.write(_answer(method, target, self.server.metrics))
        except OSError:
            # A client that is slow or gone costs itself only.
            return


class _Server(socketserver.TCPServer):
    allow_reuse_address = True

    def __init__(self, port: int, metrics: Metrics) -> None:
        self.metrics = metrics
        super().__init__(("127.0.0.1", port), _Handler)


def _answer(method: bytes, target: bytes, metrics: Metrics) -> bytes:
    if method not in (b"GET", b"HEAD"):
        status, body = "405 Method Not Allowed", b"only GET\n"
    elif target.split(b"?")[0] == b"/metrics":
        status, body = "200 OK", metrics.text().encode()
    else:
        status, body = "404 Not Found", b"see /metrics\n"
    lines = (
        f"HTTP/1.0 {status}",
        "Content-Type: text/plain; version=0.0.4; charset=utf-8",
        f"Content-Length: {len(body)}",
        "Connection: close",
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (b"" if method == b"HEAD" else body)


def serve(metrics: Metrics, port: int) -> socketserver.TCPServer:
    """Show the numbers on loopback; raises OSError when the port is taken."""
    server = _Server(port, metrics)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server
