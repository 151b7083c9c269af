# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Patterns and expressions of Go templates. Private to the collection, pure.

Nothing of the catalogue reaches what consul-template writes except through one of these patterns, a range, or ``toJSON``
in a comment.
"""

from __future__ import annotations

import ipaddress
import re
import typing as t

from ...module_utils._consul.look import LETTERS, PUNYCODE, SEPARATORS, look

# A service name that consul-template can query and that is one label of a host name. Its length is a check of its own,
# which is cheaper.
NAME = r"\A[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?\z"
NAME_LENGTH = 63
PORT = r"\A[1-9][0-9]{0,4}\z"
NAME_WITH_PORT = r"\A.+-[1-9][0-9]{0,4}\z"
PERCENT = r"\A(?:100|[1-9]?[0-9])\z"
TRUE = r"(?i)\A(?:1|true|yes|on)\z"
FALSE = r"(?i)\A(?:0|false|no|off)\z"
VERSION = r"\A[A-Za-z0-9][A-Za-z0-9._+-]*\z"

_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
# Unicast only: not 0/8 (this host), 127/8 (loopback), 224/3 (multicast, reserved). 169.254/16 (link-local, often metadata
# services) is refused separately.
_FIRST = r"(?:22[0-3]|2[01][0-9]|1[3-9][0-9]|12[0-689]|1[01][0-9]|[1-9][0-9]|[1-9])"
IPV4 = rf"\A{_FIRST}(?:\.{_OCTET}){{3}}\z"
IPV4_LOOPBACK = rf"\A127(?:\.{_OCTET}){{3}}\z"
# Global (2000::/3) and unique local (fc00::/7) addresses, in the forms that nginx reads (it refuses "::" for one last group).
# Leaves out loopback, link-local, multicast and every form that carries an IPv4 address.
_GROUP = r"[0-9A-Fa-f]{1,4}"
_IPV6_FIRST = r"(?:[23][0-9A-Fa-f]{3}|[fF][cCdD][0-9A-Fa-f]{2})"
IPV6 = (
    r"\A(?:"
    + "|".join(
        [rf"{_IPV6_FIRST}(?::{_GROUP}){{7}}"]
        + [rf"{_IPV6_FIRST}{f'(?::{_GROUP}){{{before}}}' if before else ''}::(?:{_GROUP}(?::{_GROUP}){{0,{5 - before}}})?" for before in range(6)]
    )
    + r")\z"
)


def go_string(text: str) -> str:
    """The text as a raw string of Go."""
    if "`" in text:
        raise ValueError("a raw string of Go can't hold a backquote")
    return f"`{text}`"


def go_ranges(variable: str, ranges: t.Iterable[str]) -> str:
    """A condition that is true when the integer is in one of the ranges ``first-last``."""
    tests = []
    for item in ranges:
        first, last = item.split("-")
        tests.append(f"(and (ge {variable} {first}) (le {variable} {last}))")
    return f"or {' '.join(tests)} false" if tests else "false"


def go_host_labels(patterns: t.Iterable[str]) -> str:
    """A Go pattern for the first labels of host name patterns."""
    labels = [re.escape(pattern.partition(".")[0]).replace(r"\*", "[a-z0-9_-]*").replace(r"\-", "-") for pattern in patterns]
    return rf"\A(?:{'|'.join(labels)})\z"


def go_look(expression: str, pairs: t.Iterable[tuple[str, str]] = (*SEPARATORS, *LETTERS)) -> str:
    """Return an expression for what a name in lower case looks like."""
    return "".join([expression, *(f' | replaceAll "{seen}" "{common}"' for seen, common in pairs)])


def go_alike(patterns: t.Iterable[str]) -> str:
    """Return a Go pattern for the first labels that look like one of these host names, once their letters are folded.

    Separators do not count. In a pattern with ``*`` they do, or every ``consul`` would be one of ``*-ui``: it ends so.
    """
    labels = []
    for pattern in patterns:
        label = pattern.partition(".")[0]
        if "*" not in label:
            labels.append("[-_]*".join(look(label)))
            continue
        parts = ["[-_]+".join(look(piece) for piece in re.split("[-_]", part)) for part in label.split("*")]
        labels.append("[a-z0-9_-]*".join(parts))
    return rf"\A(?:{'|'.join(labels)})\z"


def go_ipv6_spellings(address: str) -> str:
    """A Go pattern for every spelling of an IPv6 address in lower case, with brackets around it."""
    groups = [int(group, 16) for group in ipaddress.IPv6Address(address).exploded.split(":")]
    texts = [rf"0{{0,{4 - len(f'{group:x}')}}}{group:x}" if len(f"{group:x}") < 4 else f"{group:x}" for group in groups]
    forms = [":".join(texts)]
    for first in range(8):
        for last in range(first, 8):
            if not any(groups[first : last + 1]):
                forms.append(f"{':'.join(texts[:first])}::{':'.join(texts[last + 1 :])}")
    return rf"\A\[(?:{'|'.join(forms)})\]\z"


def go_tagged(tags: t.Iterable[str], instance: str = "") -> str:
    """Return a condition that is true when an instance or service has one of the tags."""
    return " ".join(["or", *(f'({instance}.Tags | contains "{tag}")' for tag in tags)])


def quoted(text: object) -> str:
    """Return the text as a string of Go without escapes."""
    return f'"{text}"'


#: The patterns by name, for the templates.
PATTERNS: dict[str, t.Any] = {
    "NAME": NAME,
    "NAME_LENGTH": NAME_LENGTH,
    "PORT": PORT,
    "NAME_WITH_PORT": NAME_WITH_PORT,
    "PERCENT": PERCENT,
    "TRUE": TRUE,
    "FALSE": FALSE,
    "VERSION": VERSION,
    "IPV4": IPV4,
    "IPV4_LOOPBACK": IPV4_LOOPBACK,
    "IPV6": IPV6,
    "PUNYCODE": PUNYCODE,
}
