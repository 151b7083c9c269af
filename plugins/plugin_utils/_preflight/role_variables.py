# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which role variables exist, and which defined ones are not among them. Private to the collection, pure."""

from __future__ import annotations

import difflib
import fnmatch
import re
import typing as t
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# Within this many wrong, missing or swapped letters, a name outside of every prefix is taken for a known one.
_TYPO = 2
_TYPO_LENGTH = 8


# Variables that decide how far a site is protected.
_SECURITY = re.compile(r"_(secur(e|ity)|secrets?|protected|tokens?|certificates?|tls|acl|key|authorit(y|ies))(_|$)")


def check_of(name: str) -> str:
    """Return the check to which a problem of a variable belongs; preflight_tolerated has no say in security."""
    return "security" if _SECURITY.search(name) else "variable"


@dataclass(frozen=True)
class RoleSpec:
    """The variables of one role, or of everything that begins with one prefix."""

    name: str
    options: Mapping[str, Mapping[str, t.Any]]
    others: frozenset[str] = field(default_factory=frozenset)

    @property
    def prefix(self) -> str:
        """How its variables begin."""
        return f"{self.name}_"

    @property
    def known(self) -> frozenset[str]:
        """All its names."""
        return frozenset(self.options) | self.others


def _load(path: Path) -> dict[str, t.Any]:
    if not path.is_file():
        return {}
    # The loader is a safe one; the C variety only has no own name in the type stubs.
    return yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER) or {}  # noqa: S506


def load_role(directory: Path) -> RoleSpec:
    """A role's variables out of its argument specification, all entry points together, and of its defaults."""
    options: dict[str, Mapping[str, t.Any]] = {}
    for entry in (_load(directory / "meta" / "argument_specs.yml").get("argument_specs") or {}).values():
        for name, spec in (entry.get("options") or {}).items():
            options.setdefault(name, spec or {})
    return RoleSpec(directory.name, options, frozenset(_load(directory / "defaults" / "main.yml")))


def load_roles(roles: Path) -> dict[str, RoleSpec]:
    """All roles of a directory."""
    return {path.name: load_role(path) for path in sorted(roles.iterdir()) if path.is_dir()} if roles.is_dir() else {}


def owner(name: str, specs: Iterable[RoleSpec]) -> RoleSpec | None:
    """Return whose variable this is.

    Whoever lists the very name comes first; then the longest prefix wins, so that consul_template_x is not one of a role named consul.
    """
    specs = list(specs)
    if listed := next((spec for spec in specs if name in spec.options), None):
        return listed
    return max((spec for spec in specs if name.startswith(spec.prefix)), key=lambda spec: len(spec.prefix), default=None)


def distance(left: str, right: str, limit: int) -> int:
    """Letters to change, add, remove or swap with their neighbour; `limit` + 1 when there are more."""
    if abs(len(left) - len(right)) > limit:
        return limit + 1
    before: list[int] = []
    last = list(range(len(right) + 1))
    for row, one in enumerate(left, start=1):
        line = [row]
        for column, other in enumerate(right, start=1):
            cost = min(last[column] + 1, line[column - 1] + 1, last[column - 1] + (one != other))
            if row > 1 and column > 1 and one == right[column - 2] and left[row - 2] == other:
                cost = min(cost, before[column - 2] + 1)
            line.append(cost)
        if min(line) > limit:
            return limit + 1
        before, last = last, line
    return last[-1]


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that looks most like this one; empty when none does."""
    return next(iter(difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.6)), "")


@dataclass(frozen=True)
class Unknown:
    """A variable that nothing reads."""

    name: str
    role: str
    nearest: str


def unknown_variables(names: Iterable[str], specs: Sequence[RoleSpec], ignored: Sequence[str] = ()) -> list[Unknown]:
    """Variables that no role reads although they look as if one did."""
    everything = frozenset().union(*(spec.known for spec in specs)) if specs else frozenset()
    found = []
    for name in sorted(names):
        if name.startswith(("ansible_", "__")) or any(fnmatch.fnmatchcase(name, pattern) for pattern in ignored):
            continue
        spec = owner(name, specs)
        if spec is not None:
            if name not in spec.known:
                found.append(Unknown(name, spec.name, nearest(name, everything)))
        elif len(name) >= _TYPO_LENGTH:
            close = [known for known in sorted(everything) if distance(name, known, _TYPO) <= _TYPO]
            if close:
                found.append(Unknown(name, "", min(close, key=lambda known: distance(name, known, _TYPO))))
    return found


def without_requirements(options: Mapping[str, Mapping[str, t.Any]]) -> dict[str, dict[str, t.Any]]:
    """The options, none of them required and none with a default: only what is defined is judged, and playbooks pass the rest later."""
    return {name: {key: value for key, value in spec.items() if key not in ("required", "default")} for name, spec in options.items()}
