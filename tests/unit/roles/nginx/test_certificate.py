# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of a certificate, as a library that knows everything about certificates sees it."""

from __future__ import annotations

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st
from nginx_edge.certificate import expiry

UTC = datetime.timezone.utc
KEYS = [ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)]


def pem(end: datetime.datetime, key: int = 0, name: str = "x") -> str:
    """A certificate that ends then."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    begin = end - datetime.timedelta(days=1)
    builder = x509.CertificateBuilder(subject, subject, KEYS[key].public_key(), x509.random_serial_number(), begin, end)
    return builder.sign(KEYS[key], hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


@pytest.mark.parametrize("key", [0, 1])
@pytest.mark.parametrize("end", ["1999-12-31T23:59:59", "2026-06-01T00:00:00", "2049-12-31T23:59:59", "2050-01-01T00:00:01", "2121-02-28T12:30:00"])
def test_the_end_is_found(end: str, key: int) -> None:
    moment = datetime.datetime.fromisoformat(end).replace(tzinfo=UTC)
    assert expiry(pem(moment, key)) == moment.timestamp()


def test_the_first_one_counts() -> None:
    first, second = (datetime.datetime(year, 1, 1, tzinfo=UTC) for year in (2030, 2040))
    assert expiry("words\n" + pem(first) + pem(second)) == first.timestamp()


@settings(max_examples=50, deadline=None)
@given(
    st.text(alphabet="abcABC/+=-\n", max_size=60) | st.integers(0, 600).map(lambda size: pem(datetime.datetime(2030, 1, 1, tzinfo=UTC), name="y" * 60)[:size])
)
def test_what_is_none_has_no_end(text: str) -> None:
    for whole in (text, f"-----BEGIN CERTIFICATE-----{text}-----END CERTIFICATE-----"):
        assert expiry(whole) is None or "BEGIN" in text
