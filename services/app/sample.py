# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the sample services have in common: settings, request log, graceful stop, the http server."""

from __future__ import annotations

import abc
import contextlib
import json
import os
import re
import signal
import socket
import ssl
import sys
import threading
import time
import typing as t
import uuid
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

VERSION = os.environ.get("SAMPLE_VERSION", "v1.0.0")
INSTANCE = os.environ.get("SAMPLE_INSTANCE", socket.gethostname())
# After the stop signal the service still accepts for this long, so that callers who have not yet heard of its end are answered.
DRAIN_SECONDS = float(os.environ.get("SAMPLE_DRAIN_SECONDS", "1"))
# Docker sends SIGKILL 10 s after SIGTERM; running requests get most of that time.
FINISH_SECONDS = float(os.environ.get("SAMPLE_FINISH_SECONDS", "8"))
# An idle kept connection is closed by the service only long after a usual proxy has closed it.
IDLE_SECONDS = 75

REQUEST_ID = re.compile(r"^[A-Za-z0-9._:-]{1,128}$")
_LOG_LOCK = threading.Lock()


def now() -> str:
    """The time in UTC with milliseconds, as the log lines and the echo answers carry it."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def log(service: str, event: str, **fields: object) -> None:
    """Write one JSON line. JSON, because its escapes keep a hostile header from forging a second line."""
    line = json.dumps({"time": now(), "service": service, "version": VERSION, "instance": INSTANCE, "event": event, **fields})
    with _LOG_LOCK:
        print(line, flush=True)


def request_id(given: str | None) -> str:
    """The caller's request id when it is a sane one, else a new one."""
    if given and REQUEST_ID.match(given):
        return given
    return uuid.uuid4().hex


class HttpHandler(BaseHTTPRequestHandler, abc.ABC):
    """Answers GET and HEAD with what the service's ``answer`` method returns; logs each request."""

    protocol_version = "HTTP/1.1"
    server_version = "sample"
    sys_version = ""
    timeout = IDLE_SECONDS
    server: HttpServer

    def setup(self) -> None:
        super().setup()
        self.busy = False
        self.server.handlers_add(self)

    def finish(self) -> None:
        self.server.handlers_discard(self)
        with contextlib.suppress(OSError):  # the peer is gone; nothing is left to be sent
            super().finish()

    @abc.abstractmethod
    def reply(self, identity: str) -> tuple[int, str]:
        """Return status and text; the identity is the request's."""

    def parse_request(self) -> bool:
        self.busy = True
        return super().parse_request()

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (ConnectionError, ssl.SSLError):
            self.close_connection = True
        finally:
            self.busy = False
        if self.server.stopping.is_set():
            self.close_connection = True

    def do_GET(self) -> None:
        started = time.monotonic()
        request = request_id(self.headers.get("X-Request-Id"))
        path = self.path.split("?", 1)[0]
        if path == "/health":
            status, text = (503, "stopping") if self.server.stopping.is_set() else (200, "ok")
        else:
            status, text = self.reply(request)
        body = (text + "\n").encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Service", self.server.service)
        self.send_header("X-Version", VERSION)
        self.send_header("X-Instance", INSTANCE)
        self.send_header("X-Request-Id", request)
        if self.server.stopping.is_set():
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()
        if path != "/health":
            log(
                self.server.service,
                "request",
                id=request,
                method=self.command,
                path=self.path,
                status=status,
                client=self.headers.get("X-Forwarded-For", self.client_address[0]),
                peer=self.client_address[0],
                host=self.headers.get("Host", ""),
                ms=round((time.monotonic() - started) * 1000, 1),
            )

    do_HEAD = do_GET  # noqa: N815 - the name that the base class looks for

    def log_message(self, format: str, *args: object) -> None:
        """The request log above replaces the one of the base class."""


class HttpServer(ThreadingHTTPServer):
    """An http server that ends without cutting a request: drain, close the listener, finish what runs."""

    daemon_threads = True  # the end is bounded by FINISH_SECONDS, not by the slowest client
    request_queue_size = 256
    # The TLS service sets this; the handshake then runs in the connection's own thread, so a silent client blocks nobody.
    tls: ssl.SSLContext | None = None

    def __init__(self, service: str, port: int, handler: type[HttpHandler]) -> None:
        self.service = service
        self.stopping = threading.Event()
        self._handlers: set[HttpHandler] = set()
        self._handlers_lock = threading.Lock()
        super().__init__(("0.0.0.0", port), handler)

    def finish_request(self, request: t.Any, client_address: t.Any) -> None:
        if self.tls is None:
            super().finish_request(request, client_address)
            return
        request.settimeout(10)
        with self.tls.wrap_socket(request, server_side=True) as wrapped:
            super().finish_request(wrapped, client_address)

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002
        log(self.service, "connection_error", peer=str(client_address), error=repr(sys.exc_info()[1]))

    def handlers_add(self, handler: HttpHandler) -> None:
        with self._handlers_lock:
            self._handlers.add(handler)

    def handlers_discard(self, handler: HttpHandler) -> None:
        with self._handlers_lock:
            self._handlers.discard(handler)

    def drain(self) -> None:
        """Let idle connections go at once and busy ones as soon as their request is answered."""
        deadline = time.monotonic() + FINISH_SECONDS
        while True:
            with self._handlers_lock:
                current = list(self._handlers)
            for handler in current:
                if not handler.busy:
                    with contextlib.suppress(OSError):
                        handler.connection.shutdown(socket.SHUT_RD)
            if not current or time.monotonic() > deadline:
                return
            time.sleep(0.02)


class StopSignal:
    """SIGTERM or SIGINT. To be made in the main thread, and before any other one.

    The kernel may give a signal to any thread, and Python runs its handler in the main one alone: which it does not wake when that waits for a lock. What is
    written to a socket wakes whoever reads from it.
    """

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)

    def wait(self) -> None:
        """Until one comes."""
        self._reader.recv(1)


def serve_http(server: HttpServer) -> None:
    """Serve until SIGTERM or SIGINT, then stop gracefully."""
    wanted = StopSignal()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    log(server.service, "started", port=server.server_address[1])
    wanted.wait()
    server.stopping.set()
    log(server.service, "draining", seconds=DRAIN_SECONDS)
    time.sleep(DRAIN_SECONDS)
    server.shutdown()
    server.server_close()
    server.drain()
    log(server.service, "stopped")
