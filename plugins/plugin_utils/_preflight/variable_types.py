# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a value has the type that a specification asks for, without any conversion. Private to the collection, pure."""

from __future__ import annotations

import json
import typing as t
from collections.abc import Mapping, Sequence

from .encrypted_values import encrypted

# Longer values are not repeated in a message.
_SHOWN = 60
_SINGLE = ("str", "bool", "int", "float", "path")
_EXAMPLES = {
    "list": "[]",
    "dict": "{}",
    "str": 'a text ("" for none)',
    "path": "a path",
    "bool": "true or false",
    "int": "a number",
}


class TypeFault(t.NamedTuple):
    """Why a value is not of its type, and how to write it."""

    message: str
    remedy: str


def type_fault(value: t.Any, spec: Mapping[str, t.Any]) -> TypeFault | None:
    """Return what is wrong with the type of a value; None when nothing is.

    Ansible would convert: a text to a list of its parts, a list to a text. A role then gets the value as it was written, so a text in
    the place of a list becomes a list of letters.
    """
    wanted = str(spec.get("type") or "str")
    if value is None:
        return TypeFault("has no value", f"write {_EXAMPLES.get(wanted, 'a value')}, or remove the line")
    if wanted == "list":
        return _list_fault(value, spec)
    if wanted == "dict":
        return _dict_fault(value, spec)
    if wanted in _SINGLE and isinstance(value, (Mapping, list, tuple)):
        return TypeFault(f"is a {_kind(value)}, but must be one value", "correct its value")
    if wanted in ("str", "path") and isinstance(value, (bool, float)):
        return TypeFault(f"is {_shown(value, spec)}, which YAML reads as a {_kind(value)}", "write it in quotes")
    return None


def _list_fault(value: t.Any, spec: Mapping[str, t.Any]) -> TypeFault | None:
    if isinstance(value, Mapping):
        return TypeFault("is a dictionary, but must be a list", "write '- ' before its first key, and indent the others")
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        return TypeFault(f"is {_shown(value, spec)} (a {_kind(value)}), but must be a list", f"write [{_shown(value, spec)}]")
    inner = {"type": spec.get("elements") or "raw", "options": spec.get("options"), "no_log": spec.get("no_log")}
    for number, element in enumerate(value, start=1):
        if inner["type"] != "raw" and (fault := type_fault(element, inner)):
            return TypeFault(f"has an element {number} that {fault.message}", fault.remedy)
    return None


def _dict_fault(value: t.Any, spec: Mapping[str, t.Any]) -> TypeFault | None:
    if not isinstance(value, Mapping):
        return TypeFault(f"is {_shown(value, spec)} (a {_kind(value)}), but must be a dictionary", "write it as names with values")
    options: Mapping[str, Mapping[str, t.Any]] = spec.get("options") or {}
    for name, option in options.items():
        # An option without a value is what a role calls "not set".
        if value.get(name) is not None and (fault := type_fault(value[name], option)):
            return TypeFault(f"has the key {name!r}, which {fault.message}", fault.remedy)
    return None


def _kind(value: t.Any) -> str:
    kinds: list[tuple[t.Any, str]] = [(bool, "truth value"), (str, "text"), (Mapping, "dictionary"), ((list, tuple), "list"), ((int, float), "number")]
    return next((name for types, name in kinds if isinstance(value, types)), type(value).__name__)


def _shown(value: t.Any, spec: Mapping[str, t.Any]) -> str:
    """Return the value as a message may repeat it."""
    if spec.get("no_log") or list(encrypted(value)) or isinstance(value, (Mapping, list, tuple)):
        return f"a {_kind(value)}"
    text = json.dumps(str(value) if not isinstance(value, (bool, int, float)) else value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"a {_kind(value)} of {len(text) - 2} characters"
