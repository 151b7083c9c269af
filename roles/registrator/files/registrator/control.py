# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A socket by which an operator gives the running engine an order. One line of JSON there, one back."""

from __future__ import annotations

import json
import os
import queue
import socket
import threading
from pathlib import Path
from typing import Any, Callable

from registrator.journal import log

SOCKET = "control.sock"
ORDERS = ("drain", "undrain", "adopt")

_LONGEST_LINE = 4096
_CLIENT_SECONDS = 5.0
# Longer than the engine needs for a complete comparison of many containers.
_ANSWER_SECONDS = 60.0


class ControlError(Exception):
    """The engine could not be asked; the message says why, and what to do."""


class Request:
    """One order, and the way back for its answer."""

    def __init__(self, order: str, container: str = "") -> None:
        self.order = order
        self.container = container
        self._answer: queue.SimpleQueue[tuple[bool, str]] = queue.SimpleQueue()

    def answer(self, done: bool, text: str) -> None:
        """Tell whether it was carried out, and what happened."""
        self._answer.put((done, text))

    def wait(self, seconds: float) -> tuple[bool, str]:
        """The answer."""
        try:
            return self._answer.get(timeout=seconds)
        except queue.Empty:
            return False, f"the engine did not answer within {seconds:.0f} seconds"


def request_of(line: bytes) -> Request | None:
    """One order from its line; None for anything else."""
    try:
        data = json.loads(line)
    except ValueError:
        return None
    if not isinstance(data, dict) or data.get("order") not in ORDERS or not isinstance(data.get("container", ""), str):
        return None
    return Request(data["order"], data.get("container", ""))


def _read_line(connection: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        part = connection.recv(_LONGEST_LINE)
        line += part
        if not part or len(line) > _LONGEST_LINE:
            return b""
    return line


def listen(directory: str, docker_socket: str, put: Callable[[Request], None]) -> socket.socket:
    """Take orders for ever, in a thread of its own.

    Whoever may use Docker's socket may stop a container, so the same group may take it out of the catalogue; nobody else but root may.

    Args:
        directory: where the socket is made.
        docker_socket: the socket whose group is taken.
        put: gets each order; the engine answers it.

    Raises:
        OSError: the socket cannot be made.
    """
    path = Path(directory) / SOCKET
    path.unlink(missing_ok=True)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    # Without the group's right to write nobody but the owner and root connects, so the order of the next lines opens no door.
    server.bind(str(path))
    path.chmod(0o600)
    try:
        os.chown(path, -1, os.stat(docker_socket).st_gid)
        path.chmod(0o660)
    except OSError as error:
        log("warning", "control-root-only", reason=str(error))
    server.listen(8)

    def serve() -> None:
        while True:
            try:
                connection, _address = server.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(_CLIENT_SECONDS)
                try:
                    request = request_of(_read_line(connection))
                    if request is None:
                        answer = (False, "the engine does not know this order")
                    else:
                        put(request)
                        answer = request.wait(_ANSWER_SECONDS)
                    connection.sendall(json.dumps({"done": answer[0], "text": answer[1]}).encode() + b"\n")
                except OSError:
                    # A client that went away costs nobody but itself.
                    continue

    threading.Thread(target=serve, name="control", daemon=True).start()
    return server


def ask(directory: str, order: str, container: str = "") -> tuple[bool, str]:
    """Give the running engine an order; returns whether it was carried out, and what happened.

    Raises:
        ControlError: the engine does not run, or may not be asked.
    """
    path = Path(directory) / SOCKET
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as client:
        client.settimeout(_ANSWER_SECONDS + _CLIENT_SECONDS)
        try:
            client.connect(str(path))
            client.sendall(json.dumps({"order": order, "container": container}).encode() + b"\n")
            with client.makefile("rb") as stream:
                answer: Any = json.loads(stream.readline() or b"null")
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise ControlError("the engine does not run; start it with `systemctl start registrator`") from error
        except PermissionError as error:
            raise ControlError("only root, and who may use Docker's socket, can give the engine an order") from error
        except (OSError, ValueError) as error:
            raise ControlError(f"the engine gave no answer: {error}") from error
    if not isinstance(answer, dict):
        raise ControlError("the engine ended before it gave an answer; see `journalctl -u registrator`")
    return bool(answer.get("done")), str(answer.get("text"))
