# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies of Consul's snapshots on the control node: for their owner alone, encrypted when there is a vault password.

Private to the collection. No Ansible import: what encrypts a file comes in.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
import typing as t

from .git_guard import keep_out_of_git, readable_in_git
from .vault import Vault

#: What the program on the nodes calls a snapshot.
_NAME = re.compile(r"consul-[0-9TZ]+-[0-9]+(?:-(?P<label>[a-z][a-z0-9-]*))?\.snap")
PATTERNS = ("consul-*.snap", ".new-*")


class SnapshotError(Exception):
    """A snapshot cannot be read or kept; the message names the file and the remedy."""


class Kept(t.NamedTuple):
    """What was done with a directory of copies."""

    path: str
    #: Names of older copies that were removed, and of those that were encrypted.
    removed: list[str]
    encrypted: list[str]
    #: Names of copies that everyone who gets the git repository can read.
    readable_in_git: list[str]


def outlived(names: t.Iterable[str], label: str, keep: int) -> list[str]:
    """Return the copies of a label that are too old; the newest one always stays."""
    same = [name for name in names if (match := _NAME.fullmatch(name)) and (match["label"] or "") == label]
    return sorted(sorted(same, reverse=True)[max(1, keep) :])


def _write(path: str, data: bytes) -> None:
    """Write a file for its owner alone, as one whole."""
    # mkstemp makes it for its owner alone.
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".new-")
    try:
        with os.fdopen(handle, "wb") as target:
            target.write(data)
            target.flush()
            os.fsync(target.fileno())
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def keep_copy(directory: str, name: str, data: bytes, sha256: str, vault: Vault, keep: int) -> Kept:
    """Keep one more copy, encrypt and close those that are there, and remove the oldest of the same label."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise SnapshotError(f"{name!r} is not the name of a snapshot; expected consul-TIME-INDEX.snap")
    if hashlib.sha256(data).hexdigest() != sha256:
        raise SnapshotError(f"{name} changed on its way from the node; run the playbook again")
    path = os.path.join(directory, name)
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        os.chmod(directory, 0o700)
        # The directory may hold more than the copies, so git keeps the rest.
        keep_out_of_git(directory, PATTERNS)
        _write(path, vault.encrypt(data) if vault.encrypt else data)
        removed = outlived(os.listdir(directory), match["label"] or "", keep)
        for old in removed:
            os.unlink(os.path.join(directory, old))
        encrypted = _protect(directory, vault)
    except OSError as error:
        reason = f"{error.filename or directory} cannot be used: {error.strerror or error}"
        raise SnapshotError(f"{reason}; correct this, or set platform_backup_directory to another directory") from error
    return Kept(path, removed, encrypted, readable_in_git(directory, vault.is_encrypted, PATTERNS))


def _protect(directory: str, vault: Vault) -> list[str]:
    """Close all copies to others, and encrypt those that are not yet; returns the names of the latter."""
    encrypted = []
    for name in sorted(filter(_NAME.fullmatch, os.listdir(directory))):
        path = os.path.join(directory, name)
        os.chmod(path, 0o600)
        if vault.encrypt is None:
            continue
        with open(path, "rb") as source:
            data = source.read()
        if not vault.is_encrypted(data):
            _write(path, vault.encrypt(data))
            encrypted.append(name)
    return encrypted


def read_snapshot(path: str, vault: Vault) -> bytes:
    """Return a snapshot, decrypted when it is encrypted."""
    try:
        with open(path, "rb") as source:
            data = source.read()
    except OSError as error:
        raise SnapshotError(f"{path} cannot be read: {error.strerror}") from error
    try:
        return vault.decrypt(data)
    except Exception as error:
        reason = (str(error).splitlines() or ["no reason given"])[0].rstrip(".")
        message = f"{path} is encrypted and cannot be decrypted: {reason}; give the vault password of that time"
        raise SnapshotError(message) from error


def describe(path: str, data: bytes, program: str) -> str:
    """Return what the backup program says of a snapshot, as JSON; an error when it is not whole."""
    # The snapshot goes through a pipe: in clear it is never on the disk.
    done = subprocess.run([sys.executable, "-IB", program, "check", "-"], input=data, capture_output=True, check=False)
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip()
        raise SnapshotError(said.removeprefix("consul-backup: ").replace("standard input", path).rstrip("."))
    return done.stdout.decode("utf-8", "replace").strip()
