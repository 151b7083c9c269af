# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""tcpfront: a line echo over plain TCP. Each line comes back as ``[version]timestamp [line]``."""

from __future__ import annotations

import contextlib
import os
import socket
import socketserver
import threading
import time

from sample import DRAIN_SECONDS, FINISH_SECONDS, VERSION, StopSignal, log, now

LINE_LIMIT = 65536
IDLE_SECONDS = 600


class Handler(socketserver.StreamRequestHandler):
    timeout = IDLE_SECONDS
    server: TcpServer

    def handle(self) -> None:
        self.server.connections_add(self.connection)
        lines = 0
        try:
            while True:
                line = self.rfile.readline(LINE_LIMIT)
                if not line:
                    break
                text = line.decode(errors="replace").rstrip("\r\n")
                self.wfile.write(f"[{VERSION}]{now()} [{text}]\n".encode())
                lines += 1
                if self.server.stopping.is_set():
                    break
        except OSError:  # the peer went away or stayed silent too long
            pass
        finally:
            self.server.connections_discard(self.connection)
            log("tcpfront", "session", peer=self.client_address[0], lines=lines)


class TcpServer(socketserver.ThreadingTCPServer):
    """A threaded echo server that ends its idle sessions only after the listener is closed."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, port: int) -> None:
        self.stopping = threading.Event()
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(("0.0.0.0", port), Handler)

    def connections_add(self, connection: socket.socket) -> None:
        with self._lock:
            self._connections.add(connection)

    def connections_discard(self, connection: socket.socket) -> None:
        with self._lock:
            self._connections.discard(connection)

    def drain(self) -> None:
        """End of input for every session: what has arrived is still answered, then the session closes."""
        deadline = time.monotonic() + FINISH_SECONDS
        while True:
            with self._lock:
                current = list(self._connections)
            for connection in current:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RD)
            if not current or time.monotonic() > deadline:
                return
            time.sleep(0.02)


def serve(server: TcpServer) -> None:
    """Serve until SIGTERM or SIGINT, then stop gracefully."""
    wanted = StopSignal()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    log("tcpfront", "started", port=server.server_address[1])
    wanted.wait()
    log("tcpfront", "draining", seconds=DRAIN_SECONDS)
    time.sleep(DRAIN_SECONDS)
    server.shutdown()
    server.server_close()
    server.stopping.set()
    server.drain()
    log("tcpfront", "stopped")


if __name__ == "__main__":
    serve(TcpServer(int(os.environ.get("SAMPLE_PORT", "9999"))))
