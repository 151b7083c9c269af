# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps what an inventory holds encrypted out of messages.

Private to the collection, pure but for the first bytes of the inventory's files.
"""

from __future__ import annotations

import functools
import json
import re
import typing as t
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from ansible._internal._datatag._tags import Origin, VaultedValue
from ansible.errors import AnsibleError
from ansible.parsing.vault import EncryptedString

from .inventory_rules import Problem

HIDDEN = "(encrypted)"
# Shorter texts are parts of ordinary words.
_WORD = 4


@functools.cache
def _encrypted_file(path: str) -> bool:
    """Return whether a file is encrypted as a whole."""
    try:
        with open(path, "rb") as file:
            return file.read(15) == b"$ANSIBLE_VAULT;"
    except OSError:
        return False


def _from_encrypted_file(value: t.Any) -> bool:
    tag = Origin.get_tag(value)
    return tag is not None and bool(tag.path) and _encrypted_file(str(tag.path))


def encrypted(value: t.Any) -> Iterator[t.Any]:
    """Find what was encrypted in a value, decrypted already or not.

    That is single strings, and all values of a file that is encrypted as a whole. The names in such a file are known
    to the operator. A truth value is neither marked nor a secret.
    """
    if isinstance(value, EncryptedString) or VaultedValue.is_tagged_on(value):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if isinstance(key, EncryptedString) or VaultedValue.is_tagged_on(key):
                yield key
            yield from encrypted(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from encrypted(item)
    elif _from_encrypted_file(value):
        yield value


def plain_texts(values: Iterable[t.Any]) -> set[str]:
    """Return the texts of what is encrypted in these values; what no password opens cannot be in a message."""
    found = set()
    for value in encrypted(tuple(values)):
        try:
            found.add(str(value))
        except AnsibleError:
            continue
    return found - {""}


def hide(text: str, secrets: Iterable[str], names: Iterable[str] = ()) -> str:
    """Return a text without these secrets, in the forms in which a message may hold them.

    Args:
        text: the text.
        secrets: what must not be in it.
        names: hosts and variables, which stay as they are even where a part of one is a secret.
    """
    forms = {form for one in secrets for form in _forms(one) if form}
    if not forms:
        return text
    kept = [rf"(?<![\w.-]){re.escape(name)}(?![\w-])" for name in names if name]
    # A part of a secret may be one, too.
    hidden = [_whole(form) if len(form) < _WORD else re.escape(form) for form in sorted(forms, key=len, reverse=True)]
    pattern = rf"({'|'.join(sorted(kept, key=len, reverse=True)) or '(?!)'})|{'|'.join(hidden)}"
    return re.sub(pattern, lambda found: found[1] or HIDDEN, text, flags=re.IGNORECASE)


def _forms(secret: str) -> tuple[str, ...]:
    """Return the forms in which a message may hold a secret; the last one is that of an example of a name."""
    name = re.sub(r"[^a-z0-9-]+", "-", secret.lower()).strip("-")
    return secret, repr(secret)[1:-1], json.dumps(secret)[1:-1], " ".join(secret.split()), name, name[:63]


def _whole(form: str) -> str:
    return rf"(?<!\w){re.escape(form)}(?!\w)"


def without_secrets(problems: Iterable[Problem], defined: Mapping[str, Mapping[t.Any, t.Any]]) -> list[Problem]:
    """Return problems without what an inventory holds encrypted, wherever a rule repeats it.

    Args:
        problems: the problems.
        defined: by host, its variables.
    """
    problems = list(problems)
    secrets = plain_texts(defined.values()) if problems else set()
    names = {*defined, *(str(name) for own in defined.values() for name in own)} if secrets else set()

    def clean(text: str) -> str:
        return hide(text, secrets, names)

    return [replace(one, message=clean(one.message), remedy=clean(one.remedy)) for one in problems]
