# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Ansible's loader encrypts and decrypts with its vault passwords. Private to the collection.

The only place that reaches into the loader: a file that it decrypted once would not be seen to change.
"""

from __future__ import annotations

import typing as t
from collections.abc import Callable


class Vault(t.NamedTuple):
    """The vault of a run."""

    #: The content of a file, decrypted when it is encrypted; an error without the password.
    decrypt: Callable[[bytes], bytes]
    #: What a content becomes on the disk; None without a vault password.
    encrypt: Callable[[bytes], bytes] | None
    #: Whether a content is encrypted.
    is_encrypted: Callable[[bytes], bool]


def loader_vault(loader: t.Any) -> Vault:
    """Return the vault of Ansible's loader."""
    from ansible.parsing.vault import is_encrypted, match_encrypt_secret

    def decrypt(data: bytes) -> bytes:
        return t.cast(bytes, loader._vault.decrypt(data)) if is_encrypted(data) else data

    vault_secrets = loader._vault.secrets
    if not vault_secrets:
        return Vault(decrypt, None, is_encrypted)
    vault_id, secret = match_encrypt_secret(vault_secrets)

    def encrypt(data: bytes) -> bytes:
        return t.cast(bytes, loader._vault.encrypt(data, secret, vault_id=vault_id))

    return Vault(decrypt, encrypt, is_encrypted)
