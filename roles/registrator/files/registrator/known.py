# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Meta data that readers of the catalogue understand: warnings about what of it they cannot use. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from registrator.attributes import Notices
from registrator.model import Registration, Settings
from registrator.secrecy import shown


def question_meta(
    written: Iterable[str],
    registrations: Iterable[Registration],
    settings: Settings,
    notices: Notices,
) -> None:
    """Warn of meta data that no reader knows, and of such that has an effect on none of the container's services."""
    known = dict(settings.known_meta)
    if not known:
        return
    for name in sorted(set(written)):
        having = [item for item in registrations if name in item.meta]
        if not having:
            continue
        text = shown("SERVICE_" + name.upper())
        if name not in known:
            _question_name(name, text, list(known), notices)
        elif not any(item.meta[name].strip() for item in having):
            notices.warn("meta-empty", name, text=text)
        elif known[name] and not any(set(known[name]) & set(item.tags) for item in having):
            notices.warn("meta-tags", name, text=text, tags=" or ".join(known[name]))


def _question_name(name: str, text: str, known: list[str], notices: Notices) -> None:
    """Warn of a name that is almost a known one, or begins like the known ones."""
    plain = name.replace("-", "_")
    related = any(plain.startswith(other.partition("_")[0] + "_") for other in known if "_" in other)
    near = difflib.get_close_matches(plain, known, 1, 0.75 if related else 0.85)
    if near:
        notices.warn("typo", name, text=text, right=near[0].upper())
    elif related:
        notices.warn("meta-unknown", name, text=text, known=", ".join(sorted(known)))
