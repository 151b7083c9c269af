# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which values each kind of option allows. Private to the collection, pure."""

from __future__ import annotations

import difflib
import ipaddress
import re
import typing as t

from .headers import CLEARED_HEADERS, OWN_HEADERS
from .option import Option


class NotAllowed(ValueError):
    """A value is not allowed. The text states which values are."""


_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN = re.compile(rf"(?:{_LABEL}\.)*{_LABEL}")
_HOST_PATTERN = re.compile(r"[a-z0-9_*](?:[a-z0-9_*-]{0,61}[a-z0-9_*])?")
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_DURATION = re.compile(r"[1-9][0-9]{0,8}(?:ms|s|m|h|d)")
_SIZE = re.compile(r"(?:0|[1-9][0-9]{0,8})[kKmMgG]?")
_LOG = re.compile(r"off|/(?:[A-Za-z0-9_-][A-Za-z0-9._-]*/)*[A-Za-z0-9_-][A-Za-z0-9._-]*")
_HEADER = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}[A-Za-z0-9])?)?")
_HEADER_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}[A-Za-z0-9])?")
_UPGRADE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9./-]{0,30}[A-Za-z0-9])?")
_COOKIE = re.compile(r"[A-Za-z0-9_]{0,64}")
_CERTIFICATE_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
_SERVICE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?")
_DATACENTER = re.compile(r"[a-z0-9_-]{1,63}")
_CERTIFICATE_HOST = re.compile(r"\*|[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?")
# Short, because the path of a unix socket has at most 107 characters.
_DIRECTORY = re.compile(r"(?=.{2,64}\Z)(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)+")
# A label of 63 characters and its dot must fit in front of the domain in a name of 253.
DOMAIN_LENGTH = 253 - 64


def _text(value: t.Any, allowed: str) -> str:
    if not isinstance(value, str):
        raise NotAllowed(allowed)
    # A plain string: what comes from Ansible may be a subclass that carries tags.
    return "".join(value)


def _pattern(value: t.Any, pattern: re.Pattern[str], allowed: str) -> str:
    text = _text(value, allowed)
    if not pattern.fullmatch(text):
        raise NotAllowed(allowed)
    return text


def _integer(value: t.Any, minimum: int, maximum: int) -> int:
    allowed = f"an integer from {minimum} to {maximum}"
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
        raise NotAllowed(allowed)
    return int(value)


def _domain(value: t.Any) -> str:
    allowed = f"a domain name of letters, digits, hyphens and dots with at most {DOMAIN_LENGTH} characters, such as apps.example.org"
    text = _text(value, allowed).lower()
    if len(text) > DOMAIN_LENGTH or not _DOMAIN.fullmatch(text):
        raise NotAllowed(allowed)
    return text


def _ip(value: t.Any) -> str:
    allowed = "an IPv4 or IPv6 address without brackets, port or prefix length"
    text = _text(value, allowed)
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise NotAllowed(allowed) from None
    if "%" in text:
        raise NotAllowed(allowed)
    return str(address)


def _own_ip(value: t.Any) -> str:
    allowed = "an address of the node itself, neither 0.0.0.0 nor ::, without brackets, port or prefix length"
    try:
        text = _ip(value)
    except NotAllowed:
        raise NotAllowed(allowed) from None
    if ipaddress.ip_address(text).is_unspecified or ipaddress.ip_address(text).is_multicast:
        raise NotAllowed(allowed)
    return text


def _network(value: t.Any) -> str:
    allowed = "an IPv4 or IPv6 address or network such as 192.0.2.0/24, with no host bits set"
    try:
        return str(ipaddress.ip_network(_text(value, allowed)))
    except ValueError:
        raise NotAllowed(allowed) from None


def size_in_bytes(text: str) -> int:
    """Return the number of bytes that a checked size means."""
    return int(text.rstrip("kKmMgG")) << {"k": 10, "m": 20, "g": 30}.get(text[-1].lower(), 0)


_MILLISECONDS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def in_milliseconds(text: str) -> int:
    """Return the number of milliseconds that a checked duration means."""
    number = text.rstrip("smhd")
    return int(number) * _MILLISECONDS[text[len(number) :]]


def _size(option: Option, value: t.Any) -> str:
    allowed = "a whole number with no unit or one of k, m, g, such as 100m"
    text = _pattern(value, _SIZE, allowed)
    if option.maximum and not option.minimum <= size_in_bytes(text) <= option.maximum:
        raise NotAllowed(f"a size from {option.minimum >> 10}k to {option.maximum >> 10}k, such as {option.default}")
    return text


def _upgrade(value: t.Any) -> str:
    allowed = "a protocol of letters, digits, dots, slashes and hyphens, such as websocket, and not h2c"
    text = _pattern(value, _UPGRADE, allowed).lower()
    if text == "h2c":
        raise NotAllowed(allowed)
    return text


def _cleared_header(value: t.Any) -> str:
    text = _pattern(value, _HEADER_NAME, "a header name of letters, digits and hyphens")
    if text.lower() in {name.lower() for name in OWN_HEADERS}:
        raise NotAllowed("a header that the edge does not write itself")
    return text


def _passed_header(value: t.Any) -> str:
    text = _pattern(value, _HEADER_NAME, "a header name of letters, digits and hyphens")
    known = {name.lower(): name for name in CLEARED_HEADERS}
    if text.lower() not in known:
        near = difflib.get_close_matches(text.lower(), known, n=1, cutoff=0.0)
        raise NotAllowed(f"a header that the edge clears, of which the nearest is {known[near[0]]}")
    return known[text.lower()]


def _port_range(value: t.Any) -> str:
    allowed = "a port from 1 to 65535 or a range such as 9000-9999 whose first port is not above its last"
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else _text(value, allowed)
    match = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", text)
    if not match:
        raise NotAllowed(allowed)
    first, last = int(match.group(1)), int(match.group(2) or match.group(1))
    if not 1 <= first <= last <= 65535:
        raise NotAllowed(allowed)
    return f"{first}-{last}"


def checked_value(option: Option, kind: str, value: t.Any, context: dict[str, t.Any]) -> t.Any:
    """Return the value of an option or element that is no list or dictionary, in its normal form.

    Args:
        option: the option.
        kind: its kind, or that of its elements.
        value: what was given.
        context: what has been checked before, such as the domain.

    Raises:
        NotAllowed: the value is not allowed.
    """
    if kind == "bool":
        if not isinstance(value, bool):
            raise NotAllowed("true or false")
        return bool(value)
    if kind == "int":
        return _integer(value, option.minimum, option.maximum)
    if kind == "port":
        return _integer(value, 1, 65535)
    if kind == "choice":
        allowed = "one of " + ", ".join(option.choices)
        if _text(value, allowed) not in option.choices:
            raise NotAllowed(allowed)
        return _text(value, allowed)
    if kind in ("host_pattern", "certificate_host"):
        domain = context.get("domain") or "the domain"
        part, example = ("any part of its first label", "team1-*") if kind == "host_pattern" else ("its whole first label", "*")
        allowed = f"a host name directly below {domain}, where * may stand for {part}, such as {example}.{domain}"
        label, dot, rest = _text(value, allowed).lower().partition(".")
        pattern = _HOST_PATTERN if kind == "host_pattern" else _CERTIFICATE_HOST
        if not dot or not pattern.fullmatch(label) or rest != context.get("domain", rest):
            raise NotAllowed(allowed)
        return f"{label}.{rest}"
    simple: dict[str, t.Callable[[t.Any], t.Any]] = {
        "domain": _domain,
        "ip": _ip,
        "own_ip": _own_ip,
        "network": _network,
        "port_range": _port_range,
        "size": lambda given: _size(option, given),
        "upgrade": _upgrade,
        "cleared_header": _cleared_header,
        "passed_header": _passed_header,
    }
    if kind in simple:
        return simple[kind](value)
    patterns = {
        "tag": (_TAG, "a tag of letters, digits, hyphens and underscores that begins with a letter or digit"),
        "duration": (_DURATION, "a positive whole number with one of the units ms, s, m, h, d, such as 400ms"),
        "log": (_LOG, "off, or an absolute path of letters, digits, dots, hyphens and underscores"),
        "header": (_HEADER, "a header name of letters, digits and hyphens, or an empty string"),
        "cookie": (_COOKIE, "a cookie name of letters, digits and underscores, or an empty string"),
        "certificate": (_CERTIFICATE_NAME, "at most 32 lower-case letters, digits and hyphens, with a letter or digit at both ends"),
        "service": (_SERVICE, "at most 63 letters, digits, hyphens and underscores, with a letter or digit at both ends"),
        "datacenter": (_DATACENTER, "at most 63 lower-case letters, digits, hyphens and underscores"),
        "directory": (_DIRECTORY, "an absolute path of at most 64 letters, digits, dots, hyphens and underscores, without a slash at its end"),
    }
    return _pattern(value, *patterns[kind])
