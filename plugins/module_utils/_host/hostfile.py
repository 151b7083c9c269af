# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Small text files of a host that can be put back exactly as they were. Private to the collection."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
import time
import typing as t

_RANDOM_BYTES = 4
_ABANDONED_SECONDS = 600


class Entry(t.NamedTuple):
    """What is at a path: a regular file (``text``), a link (``link``), or nothing (both None)."""

    text: str | None = None
    link: str | None = None
    mode: int = 0o644

    def to_json(self) -> dict[str, t.Any]:
        """A form that ``from_json`` reads back."""
        return self._asdict()

    @classmethod
    def from_json(cls, data: t.Mapping[str, t.Any]) -> Entry:
        """The entry that ``to_json`` described."""
        return cls(data.get("text"), data.get("link"), data.get("mode", 0o644))

    def shown(self) -> str:
        """The text that a difference shows."""
        if self.link is not None:
            return f"link to {self.link}\n"
        return self.text or ""


MISSING = Entry()


def read(path: str) -> Entry:
    """What is at ``path`` now. Bytes that are not UTF-8 survive a later ``write``."""
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return MISSING
    if stat.S_ISLNK(status.st_mode):
        return Entry(link=os.readlink(path))
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        return Entry(text=file.read(), mode=stat.S_IMODE(status.st_mode))


def leftovers(path: str) -> list[str]:
    """Return what a ``write`` of ``path`` that was killed left behind. A ``write`` of now takes no such time."""
    pattern = re.compile(re.escape(f".{os.path.basename(path)}.") + f"[0-9a-f]{{{2 * _RANDOM_BYTES}}}")
    found = []
    with contextlib.suppress(OSError), os.scandir(os.path.dirname(path) or ".") as entries:
        for entry in entries:
            if pattern.fullmatch(entry.name) and time.time() - entry.stat(follow_symlinks=False).st_mtime > _ABANDONED_SECONDS:
                found.append(entry.path)
    return sorted(found)


def same(path: str, wanted: Entry) -> bool:
    """Whether ``path`` holds ``wanted``; the mode of an existing file is its owner's business."""
    return read(path)[:2] == wanted[:2]


def write(path: str, entry: Entry, owner: tuple[int, int] | None = None) -> None:
    """Make ``path`` hold ``entry``: whole or not at all, and on the disk before this returns.

    ``owner`` is the user and group of a new file; until it has them, nobody else can read it.

    A file that is a mount point of its own (``/etc/resolv.conf`` in a container) cannot be replaced; it is overwritten in place.
    """
    directory = os.path.dirname(path) or "."
    if entry.text is None and entry.link is None:
        try:
            os.unlink(path)
        except FileNotFoundError:
            return
        _sync_directory(directory)
        return
    os.makedirs(directory, mode=0o755, exist_ok=True)
    temporary = os.path.join(directory, f".{os.path.basename(path)}.{secrets.token_hex(_RANDOM_BYTES)}")
    try:
        if entry.link is not None:
            os.symlink(entry.link, temporary)
        else:
            _write_text(temporary, entry, owner)
        os.replace(temporary, path)
    except OSError as exc:
        if os.path.lexists(temporary):
            os.unlink(temporary)
        if exc.errno != errno.EBUSY or entry.text is None:
            raise
        _write_text(path, entry, owner, in_place=True)
        return
    _sync_directory(directory)


def _write_text(path: str, entry: Entry, owner: tuple[int, int] | None, *, in_place: bool = False) -> None:
    # A new file must be new: nobody else's file or link is ever written through.
    flags = os.O_WRONLY | os.O_TRUNC if in_place else os.O_WRONLY | os.O_CREAT | os.O_EXCL
    descriptor = os.open(path, flags | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        file.write(entry.text or "")
        file.flush()
        if not in_place:
            if owner is not None:
                os.fchown(descriptor, *owner)
            os.fchmod(descriptor, entry.mode)
        os.fsync(descriptor)


def _sync_directory(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
