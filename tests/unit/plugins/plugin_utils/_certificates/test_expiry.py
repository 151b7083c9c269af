# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which certificates end soon."""

from __future__ import annotations

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ansible_collections.trinode.platform.plugins.plugin_utils._certificates.expiry import expiry

NOW = datetime.datetime(2026, 6, 1, 12, tzinfo=datetime.timezone.utc)


def certificate(days: float) -> str:
    """Return a certificate that ends so many days from now."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "n1")])
    last = NOW + datetime.timedelta(days=days)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(last - datetime.timedelta(days=365)).not_valid_after(last)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


@pytest.mark.parametrize(
    ("days", "words"),
    [
        (100, ""),
        (30, ""),
        (29.9, "a.pem ends in 29 days, on 2026-07-01"),
        (0.5, "a.pem ends in 0 days, on 2026-06-02"),
        (0, "a.pem ended on 2026-06-01 12:00 UTC"),
        (-3, "a.pem ended on 2026-05-29 12:00 UTC"),
    ],
)
def test_less_than_thirty_days(days: float, words: str) -> None:
    found = expiry({"a.pem": [certificate(days)]}, 30, NOW)
    assert found.ending == ([words] if words else [])
    assert found.days == {"a.pem": int(days // 1)}


def test_the_first_of_a_file_to_end_counts() -> None:
    """An issuer that ends takes the server's certificate with it."""
    found = expiry({"chain.pem": [certificate(90), certificate(5)], "good.pem": [certificate(90)]}, 30, NOW)
    assert found.days == {"chain.pem": 5, "good.pem": 90}
    assert len(found.ending) == 1 and found.ending[0].startswith("chain.pem ends in 5 days")


@pytest.mark.parametrize("texts", [[], ["-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----"]])
def test_a_file_without_a_certificate_does_not_pass(texts: list[str]) -> None:
    assert "a.pem has no certificate that can be read" in expiry({"a.pem": texts}, 30, NOW).ending[0]
