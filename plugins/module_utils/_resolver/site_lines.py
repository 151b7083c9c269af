# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lines of resolv.conf(5) that belong to the site. Private to the collection."""

from __future__ import annotations

import typing as t


class Lines(t.NamedTuple):
    """The search domains, the options and the sort lists of a resolv.conf."""

    search: list[str]
    options: list[str]
    others: list[str]


NO_LINES = Lines([], [], [])

#: What libc knows besides name servers, search domains and options.
_OTHER_KEYWORDS = ("sortlist",)


def parse(text: str) -> Lines:
    """Return what a text in the form of resolv.conf(5) says; the last of several search lines counts, as for libc."""
    search: list[str] = []
    options: list[str] = []
    others: list[str] = []
    for line in text.splitlines():
        # libc reads a keyword only at the beginning of a line.
        keyword, *values = line.split() if line and not line[0].isspace() else [""]
        if keyword == "search":
            search = values
        elif keyword == "domain":
            search = values[:1]
        elif keyword == "options":
            options.extend(values)
        elif keyword in _OTHER_KEYWORDS:
            others.append(" ".join([keyword, *values]))
    return Lines([domain for domain in search if domain != "."], options, others)


def option_name(option: str) -> str:
    """Return the name of an option without its value."""
    return option.partition(":")[0]


def with_site_options(site: t.Sequence[str], ours: t.Sequence[str]) -> list[str]:
    """Return the site's options, and ours where the site has no word of its own."""
    named = {option_name(option) for option in site}
    return [*site, *(option for option in ours if option_name(option) not in named)]


def with_site_search(site: t.Sequence[str], ours: t.Sequence[str]) -> list[str]:
    """Return the site's search domains, followed by ours."""
    return list(dict.fromkeys([*site, *ours]))


def without(lines: Lines, ours: Lines) -> Lines:
    """Return lines without the search domains and options that this role adds to those of the site."""
    return lines._replace(
        search=[domain for domain in lines.search if domain not in ours.search],
        options=[option for option in lines.options if option not in ours.options],
    )


def missing_options(text: str, wanted: t.Sequence[str]) -> list[str]:
    """Return the wanted options that a resolv.conf does not have."""
    present = parse(text).options
    return [option for option in wanted if option not in present]
