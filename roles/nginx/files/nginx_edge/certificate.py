# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Until when a certificate is valid, so that it can be watched. Python has no public function for that. No I/O."""

from __future__ import annotations

import binascii
import calendar
import re
import time

_BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)
_SEQUENCE, _UTC_TIME, _GENERALIZED_TIME, _VERSION = 0x30, 0x17, 0x18, 0xA0


def _element(data: bytes, position: int) -> tuple[int, int, int]:
    """(tag, start of the value, end of the value) of the DER element at a place."""
    tag, length = data[position], data[position + 1]
    position += 2
    if length & 0x80:
        size = length & 0x7F
        length = int.from_bytes(data[position : position + size], "big")
        position += size
    if position + length > len(data):
        raise ValueError("cut short")
    return tag, position, position + length


def _inside(data: bytes, position: int) -> int:
    """The place of the first element inside of a sequence."""
    tag, start, _ = _element(data, position)
    if tag != _SEQUENCE:
        raise ValueError("no sequence")
    return start


def expiry(text: str) -> int | None:
    """When the first certificate of a PEM text ends, in Unix time; nothing when it can't be read, which nginx will say better."""
    match = _BLOCK.search(text)
    try:
        data = binascii.a2b_base64(match.group(1)) if match else b""
        # Certificate, its part to be signed, and in there: version, serial number, algorithm, issuer, validity.
        position = _inside(data, _inside(data, 0))
        for _ in range(4 if data[position] == _VERSION else 3):
            position = _element(data, position)[2]
        position = _element(data, _inside(data, position))[2]
        tag, start, end = _element(data, position)
        value = data[start:end].decode("ascii")
        form = {_UTC_TIME: "%y%m%d%H%M%SZ", _GENERALIZED_TIME: "%Y%m%d%H%M%SZ"}[tag]
        parsed = time.strptime(value, form)
        # RFC 5280: the two digits of UTCTime are of the years 1950 to 2049.
        century = 100 if tag == _UTC_TIME and parsed.tm_year >= 2050 else 0
        return calendar.timegm((parsed.tm_year - century, *parsed[1:6]))
    except (ValueError, IndexError, KeyError, binascii.Error):
        return None
