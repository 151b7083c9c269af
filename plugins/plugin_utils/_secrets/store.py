# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets of a site on the control node: one file each, for nobody but its owner, encrypted when there is a vault password.

Private to the collection. No Ansible import: what reads, judges and encrypts a file comes in.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import os
import re
import secrets
import tempfile
import time
import typing as t
import uuid
from collections.abc import Callable

from .git_guard import keep_out_of_git
from .vault import loader_vault

_NAME = re.compile(r"[a-z][a-z0-9_-]*(?:\.[a-z0-9_-]+)*")
# An inventory's directory is read as inventories, all but the files with this ending: a file without it would make each of its lines a host.
SUFFIX = ".txt"
# A directory in which Ansible finds nothing that it can read is a warning with each command, so there is something.
MARKER = "inventory.yml"
MARKER_TEXT = "---\n# No hosts. Ansible reads this directory as a part of the inventory, and is content with this.\nall: {}\n"

# What a file is called until it is complete. No write takes so long.
TEMPORARY = ".new-"
ABANDONED_SECONDS = 600
# A site that has one of these has its secrets here; what else is missing may be made.
BEGINNING = ("consul_token_management", "consul_ca", "consul_gossip_key")

KINDS: dict[str, Callable[[], str]] = {
    "uuid": lambda: str(uuid.uuid4()),
    # As `consul keygen` makes it.
    "key": lambda: base64.b64encode(secrets.token_bytes(32)).decode(),
}


class SecretError(Exception):
    """A secret cannot be read or kept; the message names the file and never what is in it."""


class Store:
    """The secrets of one directory.

    Args:
        directory: where they are, an absolute path.
        read: the text of a file, decrypted when it is encrypted, and whether it was.
        encrypt: what a text becomes on the disk; None without a vault password.
        dry: whether to write nothing, as in check mode.
    """

    def __init__(self, directory: str, read: Callable[[str], tuple[str, bool]], encrypt: Callable[[str], str] | None = None, dry: bool = False) -> None:
        if not os.path.isabs(directory):
            raise SecretError(f"the directory of the secrets is {directory!r}, which is no absolute path; set platform_secrets_directory to one")
        self.directory = directory
        self._read = read
        self._encrypt = encrypt
        self._dry = dry

    def path(self, name: str) -> str:
        """The file of a secret."""
        if not _NAME.fullmatch(name):
            raise SecretError(f"{name!r} is no name of a secret; it takes lower-case letters, digits, '-', '_' and '.'")
        return os.path.join(self.directory, name + SUFFIX)

    def get(self, name: str) -> str | None:
        """A secret; None when there is none of that name. A file that others can read, or that should be encrypted and is not, is put right."""
        path = self.path(name)
        try:
            mode = os.stat(path).st_mode
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SecretError(f"{path} cannot be read: {error.strerror}; correct its owner or its mode") from error
        try:
            text, encrypted = self._read(path)
        except Exception as error:
            raise SecretError(f"{path} cannot be read: {str(error).splitlines()[0]}; is the vault password that it was encrypted with configured?") from error
        value = text.strip()
        if not value:
            raise SecretError(f"{path} is empty; bring its content back, or remove the file and a new secret is made")
        if not self._dry:
            self._guard_existing()
            if mode & 0o077 or (self._encrypt and not encrypted):
                self._write(path, value)
        return value

    def begun(self) -> bool:
        """Return whether the secrets of a site are here."""
        return any(os.path.exists(self.path(name)) for name in BEGINNING)

    def require_begun(self) -> None:
        """Refuse to make secrets in a directory that has none: the nodes may have those of a running cluster."""
        if not self._dry and not self.begun():
            raise SecretError(
                f"{self.directory} has no secrets of this site, so none was made; bring the directory from the machine"
                " or the backup that has it, or let site.yml (for all hosts, without --tags) make the first ones of a new site"
            )

    def ensure(self, name: str, kind: str, begin: bool = True) -> str:
        """Return a secret, made when there is none yet. Of several that make it at once, the first one wins.

        Without ``begin``, the first secret of a directory is not made.
        """
        value = self.get(name)
        if value is not None:
            return value
        if not begin:
            self.require_begun()
        value = KINDS[kind]()
        if self._dry:
            return value
        if self._write(self.path(name), value, exclusively=True):
            return value
        found = self.get(name)
        if found is None:
            raise SecretError(f"{self.path(name)} came and went; see who else writes there, and run again")
        return found

    def put(self, name: str, value: str) -> bool:
        """Keep this value; whether that changed anything."""
        path = self.path(name)
        if os.path.exists(path) and self.get(name) == value.strip():
            return False
        if not self._dry:
            self._write(path, value.strip())
        return True

    def remove(self, name: str) -> bool:
        """Forget a secret; whether there was one."""
        path = self.path(name)
        if not os.path.lexists(path):
            return False
        if not self._dry:
            os.unlink(path)
        return True

    def _write(self, path: str, value: str, exclusively: bool = False) -> bool:
        """Write a file as one whole; with ``exclusively``, False when there is one already."""
        text = value + "\n"
        try:
            os.makedirs(self.directory, mode=0o700, exist_ok=True)
            self._guard()
            # mkstemp makes it for its owner alone.
            handle, temporary = tempfile.mkstemp(dir=self.directory, prefix=TEMPORARY)
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as target:
                    target.write(self._encrypt(text) if self._encrypt else text)
                    target.flush()
                    os.fsync(target.fileno())
                if exclusively:
                    os.link(temporary, path)
                else:
                    os.replace(temporary, path)
            finally:
                if os.path.exists(temporary):
                    os.unlink(temporary)
        except FileExistsError:
            return False
        except OSError as error:
            raise SecretError(f"{path} cannot be written: {error.strerror}; correct the directory, or set platform_secrets_directory") from error
        return True

    def _guard(self) -> None:
        """Keep Ansible from warning about the directory, and git from taking it."""
        keep_out_of_git(self.directory)
        self._remove_abandoned()
        path = os.path.join(self.directory, MARKER)
        if not os.path.exists(path):
            with open(path, "w", encoding="utf-8") as target:
                target.write(MARKER_TEXT)

    def _remove_abandoned(self) -> None:
        """Remove what a run that was killed left while it wrote: it may be a secret that was replaced since."""
        for name in os.listdir(self.directory):
            path = os.path.join(self.directory, name)
            with contextlib.suppress(FileNotFoundError):
                if name.startswith(TEMPORARY) and time.time() - os.lstat(path).st_mtime > ABANDONED_SECONDS:
                    os.unlink(path)

    def _guard_existing(self) -> None:
        """Guard a directory that an earlier version made. A read-only medium needs no guard to be read."""
        try:
            self._guard()
        except OSError as error:
            if error.errno != errno.EROFS:
                fault = f"{error.filename or self.directory} cannot be written: {error.strerror}"
                raise SecretError(f"{fault}; correct its owner or its mode") from error


def random_value(kind: str) -> str:
    """A new secret that is kept nowhere yet."""
    return KINDS[kind]()


def loader_store(loader: t.Any, directory: str, dry: bool) -> Store:
    """Return a store that reads and encrypts with what Ansible's loader knows of vault passwords."""
    vault = loader_vault(loader)

    def read(path: str) -> tuple[str, bool]:
        with open(path, "rb") as source:
            data = source.read()
        return vault.decrypt(data).decode("utf-8"), vault.is_encrypted(data)

    if vault.encrypt is None:
        return Store(directory, read, dry=dry)
    encrypted = vault.encrypt
    return Store(directory, read, lambda text: encrypted(text.encode("utf-8")).decode("ascii"), dry)
