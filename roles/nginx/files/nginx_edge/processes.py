# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes of the host."""

from __future__ import annotations

import os
import select
import signal
import time
from typing import NamedTuple


class Finished(NamedTuple):
    """How a program ended."""

    status: int
    stdout: str
    stderr: str


def _spawn(argv: list[str], writers: list[int]) -> int:
    """Start a program that writes its output and its errors to these descriptors; return its process id."""
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        actions = [(os.POSIX_SPAWN_DUP2, source, target) for target, source in enumerate([null, *writers])]
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
        return os.posix_spawn(argv[0], argv, environment, file_actions=actions)
    finally:
        for fd in (null, *writers):
            os.close(fd)


def _collect(output: dict[int, list[bytes]], timeout: float) -> bool:
    """Read from these descriptors to their ends; return whether they ended in time."""
    poller, deadline, waiting = select.poll(), time.monotonic() + timeout, set(output)
    for fd in output:
        poller.register(fd, select.POLLIN | select.POLLHUP)
    while waiting:
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        for fd, _ in poller.poll(left * 1000):
            data = os.read(fd, 1 << 16)
            if data:
                output[fd].append(data)
            else:
                poller.unregister(fd)
                waiting.discard(fd)
    return True


def run(argv: list[str], timeout: float) -> Finished:
    """Run a program. Importing ``subprocess`` would take as long as testing a configuration does."""
    pipes = [os.pipe2(os.O_CLOEXEC) for _ in range(2)]
    output: dict[int, list[bytes]] = {reader: [] for reader, _ in pipes}
    try:
        pid = _spawn(argv, [writer for _, writer in pipes])
        if not _collect(output, timeout):
            os.kill(pid, signal.SIGKILL)
            output[pipes[1][0]].append(f"{argv[0]} did not end within {timeout:g} s".encode())
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except OSError as error:
        return Finished(127, "", f"{argv[0]}: {error.strerror}")
    finally:
        for fd in output:
            os.close(fd)
    texts = [b"".join(parts).decode("utf-8", "replace") for parts in output.values()]
    return Finished(code if code >= 0 else 128 - code, *texts)


def read_proc(pid: int, name: str) -> bytes:
    """Return a file of a process below ``/proc``; nothing when the process does not exist."""
    try:
        with open(f"/proc/{pid}/{name}", "rb") as handle:
            return handle.read()
    except OSError:
        return b""


def socket_inodes(pid: int) -> set[str]:
    """Return the inodes of the sockets that a process has open."""
    found = set()
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            try:
                target = os.readlink(f"/proc/{pid}/fd/{name}")
            except OSError:
                continue
            if target.startswith("socket:["):
                found.add(target[8:-1])
    except OSError:
        pass
    return found
