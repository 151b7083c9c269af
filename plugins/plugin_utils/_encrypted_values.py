# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps what an inventory holds encrypted out of messages. Private to the collection, pure."""

from __future__ import annotations

import json
import re
import typing as t
from collections.abc import Iterable, Iterator, Mapping

from ansible._internal._datatag._tags import VaultedValue
from ansible.errors import AnsibleError
from ansible.parsing.vault import EncryptedString

HIDDEN = "(encrypted)"


def encrypted(value: t.Any) -> Iterator[t.Any]:
    """Find the strings in a value that were encrypted one by one, decrypted already or not."""
    if isinstance(value, EncryptedString) or VaultedValue.is_tagged_on(value):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from encrypted(key)
            yield from encrypted(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from encrypted(item)


def plain_texts(values: Iterable[t.Any]) -> set[str]:
    """Return what the encrypted strings in these values say; what no password opens cannot be in a message."""
    found = set()
    for value in encrypted(tuple(values)):
        try:
            found.add(str(value))
        except AnsibleError:
            continue
    return found - {""}


def hide(text: str, secrets: Iterable[str]) -> str:
    """Return a text without these secrets, in the forms in which a message may hold them."""
    forms = {form for one in secrets for form in (one, repr(one)[1:-1], json.dumps(one)[1:-1], " ".join(one.split())) if form}
    if not forms:
        return text
    # A part of a secret may be one, too.
    return re.sub("|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True)), HIDDEN, text, flags=re.IGNORECASE)
