# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The nginx that runs on the host."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Iterable

from .config import Config
from .files import read_text, remove_sockets
from .nginxconf import WILDCARDS, Listener
from .processes import read_proc, run, socket_inodes
from .sockets import bind_error, holder_of, listening, not_bound

UNSEEN = "a process that can't be seen from here"


def http_get(port: int, path: str, timeout: float) -> str | None:
    """Return the body of an answer with status 200 on loopback, over a new connection; None otherwise."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout) as connection:
            connection.settimeout(timeout)
            connection.sendall(f"GET {path} HTTP/1.0\r\nHost: nginx-edge-status\r\n\r\n".encode("ascii"))
            data = b""
            while len(data) < 1 << 20:
                part = connection.recv(1 << 16)
                if not part:
                    break
                data += part
    except OSError:
        return None
    head, _, body = data.partition(b"\r\n\r\n")
    return body.decode("utf-8", "replace") if head.split(b" ", 2)[1:2] == [b"200"] else None


class Nginx:
    """The nginx of this host.

    ``controller`` of the configuration says who starts it: systemd, or this program (tests, other init systems)."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def master(self, quick: bool = False) -> int:
        """Return the process id of the master, or 0. The quick form does not ask systemd when the pid file is stale."""
        pid = (read_text(self.config.pid_file) or "").strip()
        if pid.isdigit() and self._is_master(int(pid)):
            return int(pid)
        if self.config.controller == "systemd" and not quick:
            argv = ["/usr/bin/systemctl", "show", "--value", "--property=MainPID", self.config.unit]
            pid = run(argv, 10).stdout.strip()
            if pid.isdigit() and self._is_master(int(pid)):
                return int(pid)
        return 0

    @staticmethod
    def _is_master(pid: int) -> bool:
        return pid > 1 and read_proc(pid, "cmdline").startswith(b"nginx: master process")

    @staticmethod
    def active_workers(master: int) -> set[int]:
        """Return the workers that still take new connections."""
        children = read_proc(master, f"task/{master}/children").split()
        found = set()
        for child in map(int, children):
            title = read_proc(child, "cmdline")
            if title.startswith(b"nginx: worker process") and b"shutting down" not in title:
                found.add(child)
        return found

    def held(self, master: int) -> set[Listener]:
        """Return the sockets that the master listens on."""
        if not master:
            return set()
        own = socket_inodes(master)
        return {listener for listener, inode in listening() if inode in own}

    def unusable(self, wanted: Iterable[Listener], master: int) -> dict[Listener, str]:
        """Return the sockets that nginx cannot get, each with the reason.

        A conflict with another address of nginx itself is left to nginx to report."""
        wanted = set(wanted)
        # Where nginx listens on all addresses, it has one socket for a port, and a single address need not exist yet.
        single = {one for one in wanted if one.address not in WILDCARDS}
        covered = {one for one in single if one._replace(address=WILDCARDS[":" in one.address]) in wanted}
        missing = wanted - covered - self.held(master)
        reasons: dict[Listener, str] = {}
        sockets: list[tuple[Listener, str]] = []
        for listener in sorted(missing):
            code = bind_error(listener)
            if code == errno.EADDRINUSE:
                sockets = sockets or listening()
                name, pid = holder_of(listener, sockets)
                if pid and pid == master:
                    continue
                reasons[listener] = f"is held by {name or UNSEEN}"
            elif code:
                reasons[listener] = f"can't be used: {os.strerror(code)}"
        return reasons

    def generation(self, timeout: float = 1.0) -> str | None:
        """Return the generation that a worker answers with; any worker may take the connection."""
        answer = http_get(self.config.status_port, "/generation", timeout)
        return answer.strip() if answer is not None else None

    def start(self) -> str:
        """Start nginx; return an empty text, or what went wrong."""
        if self.config.controller == "systemd":
            result = run(["/usr/bin/systemctl", "start", self.config.unit], 60)
        else:
            # systemd empties the directory itself (RuntimeDirectory).
            remove_sockets(self.config.socket_dir)
            result = run([self.config.nginx_binary, "-c", self.config.nginx_conf], 30)
        return "" if result.status == 0 else (result.stderr or result.stdout).strip()

    def wait_for(self, generation: str, wanted: Iterable[Listener], old_workers: set[int], deadline: float) -> str:
        """Wait until only this generation answers and its sockets are bound; return an empty text, or what was missing.

        Once no earlier worker takes connections, every answer comes from a new one. Several answers in a row are for
        kernels whose /proc does not list children."""
        wanted, answers, reason = set(wanted), 0, ""
        while True:
            answer = self.generation(0.5)
            master = self.master(quick=True)
            answers = answers + 1 if answer == generation else 0
            if answers >= 3:
                leftover = old_workers & self.active_workers(master)
                missing = [] if leftover else not_bound(wanted, self.held(master))
                if not leftover and not missing:
                    return ""
                reason = f"nginx does not listen on {', '.join(map(str, missing[:5]))}"
                if leftover:
                    reason = f"{len(leftover)} worker(s) of before still take connections"
            elif not master:
                reason = "nginx does not run"
            elif answer:
                reason = f"nginx answers with generation {answer}, not {generation}"
            else:
                reason = f"nginx does not answer on 127.0.0.1:{self.config.status_port}"
            if time.monotonic() >= deadline:
                return reason
            time.sleep(0.004)
