# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One option of the edge description, and its documentation. Private to the collection, pure."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

_ANSIBLE_TYPES = {"bool": "bool", "int": "int", "port": "int", "list": "list", "dict": "dict"}


@dataclass(frozen=True)
class Option:
    """One key of the edge description."""

    name: str
    kind: str
    description: tuple[str, ...]
    default: t.Any = None
    required: bool = False
    elements: str = ""
    minimum: int = 0
    maximum: int = 0
    choices: tuple[str, ...] = ()
    suboptions: tuple[Option, ...] = field(default=())

    @property
    def ansible_type(self) -> str:
        """The type as ansible-doc names it."""
        return _ANSIBLE_TYPES.get(self.kind, "str")

    @property
    def ansible_elements(self) -> str:
        """The type of a list's elements as ansible-doc names it."""
        return _ANSIBLE_TYPES.get(self.elements, "str")


def documentation(options: t.Iterable[Option]) -> dict[str, t.Any]:
    """Return what ansible-doc shows of options."""
    return {option.name: _documented(option) for option in options}


def _documented(option: Option) -> dict[str, t.Any]:
    entry: dict[str, t.Any] = {"description": list(option.description), "type": option.ansible_type}
    if option.kind == "int":
        entry["description"].append(f"From V({option.minimum}) to V({option.maximum}).")
    if option.required:
        entry["required"] = True
    if option.kind == "list":
        entry["elements"] = option.ansible_elements
    if option.suboptions:
        entry["suboptions"] = documentation(option.suboptions)
    if option.kind == "dict":
        entry["default"] = {}
    elif not option.required and option.default is not None:
        entry["default"] = list(option.default) if option.kind == "list" else option.default
    if option.choices:
        entry["choices"] = list(option.choices)
    return entry
