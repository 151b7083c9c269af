# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SRV answers over TCP."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.trinode.platform.plugins.module_utils._acceptance import dns

QUESTION = b"\x03web\x07service\x06consul\x00"


def answer(*ports: int, identity: int = 7, code: int = 0) -> bytes:
    """A message as Consul sends it: compressed names, one additional record that does not matter."""
    message = struct.pack(">HHHHHH", identity, 0x8580 | code, 1, len(ports), 0, 1) + QUESTION + struct.pack(">HH", dns.SRV, 1)
    for port in ports:
        target = b"\x04node\xc0\x0c"
        message += b"\xc0\x0c" + struct.pack(">HHIH", dns.SRV, 1, 0, 6 + len(target)) + struct.pack(">HHH", 1, 5, port) + target
    return message + b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 0, 4) + b"\x01\x02\x03\x04"


def test_query_is_one_question() -> None:
    assert dns.query("web.service.consul", dns.SRV, 7) == struct.pack(">HHHHHH", 7, 0x0100, 1, 0, 0, 0) + QUESTION + struct.pack(">HH", 33, 1)


def test_records_with_compressed_targets() -> None:
    assert dns.parse_srv(answer(32768, 32769), 7) == [
        dns.Srv("node.web.service.consul", 32768, 5),
        dns.Srv("node.web.service.consul", 32769, 5),
    ]


def test_a_name_that_does_not_exist_has_no_records() -> None:
    assert dns.parse_srv(answer(code=3), 7) == []


def test_refusal_is_an_error() -> None:
    with pytest.raises(dns.DnsError, match="code 5"):
        dns.parse_srv(answer(code=5), 7)


def test_answer_to_another_question() -> None:
    with pytest.raises(dns.DnsError, match="another question"):
        dns.parse_srv(answer(1), 8)


@given(st.binary(max_size=80), st.integers(0, 60))
def test_any_bytes_give_records_or_our_error(noise: bytes, cut: int) -> None:
    for message in (noise, answer(1, 2)[:cut], answer(1)[:12] + noise):
        with contextlib.suppress(dns.DnsError):
            dns.parse_srv(message, 7)


def test_a_name_that_points_at_itself_ends() -> None:
    message = struct.pack(">HHHHHH", 7, 0x8580, 1, 1, 0, 0) + b"\xc0\x0c" + b"\0" * 20
    with pytest.raises(dns.DnsError, match="no end"):
        dns.parse_srv(message, 7)
