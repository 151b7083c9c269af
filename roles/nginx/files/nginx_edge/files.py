# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of the host: read, write and replace them."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import time
from typing import Any, BinaryIO

from .errors import ApplyError
from .nginxconf import printable


def write_file(path: str, text: str, sync: bool = True, mode: int = 0o644) -> None:
    """Write a new file."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    with open(fd, "w", encoding="utf-8", newline="") as handle:
        os.fchmod(fd, mode)
        handle.write(text)
        handle.flush()
        if sync:
            os.fsync(fd)


def replace_file(path: str, text: str, sync: bool = True) -> None:
    """Replace a file atomically."""
    temporary = f"{path}.new"
    write_file(temporary, text, sync)
    os.replace(temporary, path)


def sync_path(path: str) -> None:
    """Flush a file or directory to the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def read_text(path: str) -> str | None:
    """Return the text of a file of this program, or None when it does not exist or is damaged."""
    try:
        with open(path, encoding="utf-8", newline="") as handle:
            return handle.read()
    except (OSError, ValueError):
        return None


def read_object(path: str) -> dict[str, Any]:
    """Return the object in a JSON file of this program; an empty one when there is none."""
    try:
        found = json.loads(read_text(path) or "{}")
    except ValueError:
        found = {}
    return found if isinstance(found, dict) else {}


def open_regular(path: str) -> BinaryIO | None:
    """Open a file in a directory that others may write to; None when it is not a regular file or cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        return None
    return open(fd, "rb")


def swap_link(link: str, target: str) -> None:
    """Change the target of a link, atomically and durably."""
    temporary = f"{link}.new"
    if os.path.lexists(temporary):
        os.unlink(temporary)
    os.symlink(target, temporary)
    os.replace(temporary, link)
    sync_path(os.path.dirname(link))


def remove_tree(path: str) -> None:
    """Remove a directory with its content, a file, or nothing."""
    if os.path.isdir(path) and not os.path.islink(path):
        for entry in list(os.scandir(path)):
            remove_tree(entry.path)
        os.rmdir(path)
    elif os.path.lexists(path):
        os.unlink(path)


def remove_sockets(directory: str) -> None:
    """Remove the unix sockets that a killed nginx left behind: the next one could not bind to them."""
    if os.path.isdir(directory):
        for entry in list(os.scandir(directory)):
            if stat.S_ISSOCK(entry.stat(follow_symlinks=False).st_mode):
                os.unlink(entry.path)


def refuse_links(directory: str) -> None:
    """Refuse a staging directory with anything but regular files with one name: root could be led elsewhere by it."""
    try:
        entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
    except OSError:
        # The error is reported when a file is read.
        return
    for entry in entries:
        try:
            info = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            # It was the temporary name of a file that has been written since.
            continue
        if stat.S_ISREG(info.st_mode) and info.st_nlink == 1:
            continue
        kind = "is a symbolic link" if stat.S_ISLNK(info.st_mode) else "is not a file"
        kind = f"has {info.st_nlink} names" if stat.S_ISREG(info.st_mode) else kind
        remedy = "only regular files with one name belong there: find out who made it, and remove it"
        raise ApplyError("staged", f"{printable(entry.path)} {kind}; {remedy}")


def _open_staged(directory: str, name: str) -> int | None:
    """Open a staged file; None if it does not exist."""
    where = f"{directory}/{name}"
    try:
        folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        reason = f"the staging directory {directory} can't be opened: {error.strerror}"
        raise ApplyError("platform", f"{reason}; run the site playbook again") from error
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        reason = "is a symbolic link" if error.errno == errno.ELOOP else f"can't be opened: {error.strerror}"
        raise ApplyError("staged", f"{where} {reason}; only a regular file is read") from error
    finally:
        os.close(folder)
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode) or info.st_nlink > 1:
        os.close(fd)
        raise ApplyError("staged", f"{where} is not a regular file with one name; only such a file is read")
    return fd


def read_staged(directory: str, name: str, limit: int) -> str | None:
    """Return a staged file, or None if it does not exist.

    Who may write there is not trusted: no links, no devices, no endless files."""
    fd, where = _open_staged(directory, name), f"{directory}/{name}"
    if fd is None:
        return None
    with open(fd, "rb") as handle:
        data = handle.read(limit + 1)
    if len(data) > limit:
        raise ApplyError("staged", f"{where} is larger than {limit} bytes (max_staged_bytes)")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ApplyError("staged", f"{where} is not UTF-8: byte {error.start}") from error
    if "\0" in text:
        raise ApplyError("staged", f"{where} holds a NUL byte, line {text.count(chr(10), 0, text.index(chr(0))) + 1}")
    return text


class Lock:
    """One run at a time. The kernel releases the lock when its holder ends."""

    def __init__(self, path: str, timeout: float) -> None:
        self.path, self.timeout, self.fd = path, timeout, -1

    def __enter__(self) -> Lock:
        self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        deadline = time.monotonic() + self.timeout
        while True:
            try:
                fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return self
            except BlockingIOError:
                if time.monotonic() > deadline:
                    reason = f"another run holds {self.path} for more than {self.timeout:g} s"
                    raise ApplyError("host", reason) from None
                time.sleep(0.01)

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)
