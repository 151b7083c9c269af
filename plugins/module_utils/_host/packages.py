# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which packages a role brought to a host, so that they can be taken away again and no others. Private to the collection, pure."""

from __future__ import annotations

import json
import re
import typing as t

_NEW = re.compile(r"^The following NEW packages will be installed:\n((?:[ \t]+\S.*\n?)+)", re.MULTILINE)


class PackagesError(Exception):
    """The file of what was remembered is of no use."""


def installed_by(apt_output: str) -> list[str]:
    """The packages that apt says it installs, dependencies included."""
    return sorted({name for block in _NEW.findall(apt_output) for name in block.replace("{a}", "").split()})


def load(text: str | None, path: str) -> dict[str, list[str]]:
    """What was remembered, by role."""
    if text is None:
        return {}
    try:
        data = json.loads(text)
        return {str(owner): [str(name) for name in names] for owner, names in data.items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise PackagesError(f"{path} is damaged ({error}); remove it, then the packages count as the operator's own") from error


def remembered(known: t.Mapping[str, t.Sequence[str]], owner: str, new: t.Iterable[str]) -> dict[str, list[str]]:
    """With what an owner brought now."""
    return {**{key: list(names) for key, names in known.items()}, owner: sorted({*known.get(owner, ()), *new})}


def forgotten(known: t.Mapping[str, t.Sequence[str]], owner: str) -> dict[str, list[str]]:
    """Without an owner."""
    return {key: list(names) for key, names in known.items() if key != owner}
