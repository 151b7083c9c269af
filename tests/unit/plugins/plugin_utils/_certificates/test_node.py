# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates of nodes, made here and judged as the other nodes would."""

from __future__ import annotations

import datetime
import ipaddress
import typing as t

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ansible_collections.trinode.platform.plugins.plugin_utils._certificates.node import is_server, judge

NOW = datetime.datetime(2026, 6, 1, tzinfo=datetime.timezone.utc)
NAMES = ["server.dc1.consul", "localhost", "127.0.0.1", "192.0.2.1"]
BOTH = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)


class Pair(t.NamedTuple):
    certificate: x509.Certificate
    private: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    def key(self, password: bytes | None = None) -> str:
        protection = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        return self.private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection).decode()


def make(
    name: str, issuer: Pair | None = None, names: t.Sequence[str] = (), days: int = 100, begins: int = 1, purposes: t.Sequence[x509.ObjectIdentifier] = BOTH
) -> Pair:
    private = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - datetime.timedelta(days=begins))
        .not_valid_after(NOW + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if purposes and issuer:
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    if names:
        entries = [x509.IPAddress(ipaddress.ip_address(one)) if one[0].isdigit() else x509.DNSName(one) for one in names]
        builder = builder.add_extension(x509.SubjectAlternativeName(entries), critical=False)
    return Pair(builder.sign(issuer.private if issuer else private, hashes.SHA256()), private)


AUTHORITY = make("authority", days=1000)
GOOD = make("consul-1", AUTHORITY, NAMES)


def test_a_good_certificate() -> None:
    assert judge(GOOD.pem, GOOD.key(), AUTHORITY.pem, NAMES, NOW) == ([], 100, 1000)


def test_nothing_at_all() -> None:
    assert judge("", "", "", NAMES, NOW).problems == ["there is no certificate and no key and no authority"]
    assert judge("x", "x", "x", NAMES, NOW).problems == ["the certificate or its authority is no PEM certificate"]


OTHER = make("other", days=1000)


@pytest.mark.parametrize(
    ("pair", "key", "names", "problem"),
    [
        (GOOD, GOOD.key(), [*NAMES, "192.0.2.9"], "it does not carry 192.0.2.9"),
        (GOOD, OTHER.key(), NAMES, "its key belongs to another certificate"),
        (GOOD, "x", NAMES, "its key is no PEM private key"),
        (GOOD, GOOD.key(b"x"), NAMES, "its key is encrypted"),
        (GOOD, GOOD.key(), ["localhost"], "it carries server.dc1.consul, though its node is no server"),
    ],
)
def test_a_problem(pair: Pair, key: str, names: list[str], problem: str) -> None:
    assert any(problem in found for found in judge(pair.pem, key, AUTHORITY.pem, names, NOW).problems)


@pytest.mark.parametrize(
    ("pair", "problem"),
    [
        (make("late", AUTHORITY, NAMES, days=-1, begins=9), "it ended at 2026-05-31 00:00 UTC"),
        (make("early", AUTHORITY, NAMES, begins=-2), "it begins only at 2026-06-03 00:00 UTC"),
        (make("foreign", OTHER, NAMES), "the authority has not issued it"),
        (make("bare", AUTHORITY), "it does not carry server.dc1.consul, localhost, 127.0.0.1, 192.0.2.1"),
        (make("web", AUTHORITY, NAMES, purposes=BOTH[:1]), "it is not meant for clients"),
    ],
)
def test_a_bad_certificate(pair: Pair, problem: str) -> None:
    assert judge(pair.pem, pair.key(), AUTHORITY.pem, NAMES, NOW).problems == [problem]


def test_a_chain_and_its_order() -> None:
    # An authority of the operator's that has another one above it.
    below = make("below", AUTHORITY, purposes=())
    leaf = make("leaf", below, NAMES)
    # verify_directly_issued_by compares names and signatures; what an authority may do is for Consul to judge.
    assert judge(leaf.pem + below.pem, leaf.key(), AUTHORITY.pem, NAMES, NOW).problems == []
    assert judge(leaf.pem + OTHER.pem, leaf.key(), AUTHORITY.pem, NAMES, NOW).problems == ["its chain is out of order"]


def test_the_end_of_the_authority_is_told_apart() -> None:
    short = make("short", days=10)
    leaf = make("leaf", short, NAMES)
    state = judge(leaf.pem, leaf.key(), short.pem + AUTHORITY.pem, NAMES, NOW)
    assert (state.days, state.authority_days) == (100, 10)


def test_what_go_could_not_read() -> None:
    """Two certificates that run into each other, as after a wrong join."""
    assert judge(GOOD.pem, GOOD.key(), AUTHORITY.pem + OTHER.pem, NAMES, NOW).problems == []
    (problem,) = judge(GOOD.pem, GOOD.key(), AUTHORITY.pem.strip() + "\\n" + OTHER.pem, NAMES, NOW).problems
    assert problem.startswith("authority: '-----END CERTIFICATE-----\\\\n-----BEGIN CERTIFICATE-----' is no line of its own")
    assert judge(GOOD.pem + "-----BEGIN", GOOD.key(), AUTHORITY.pem, NAMES, NOW).problems
    assert judge(GOOD.pem.replace("\n", "\r\n"), GOOD.key(), AUTHORITY.pem, NAMES, NOW).problems == []


@pytest.mark.parametrize(
    ("names", "expected"),
    [(["server.dc1.consul"], True), (["consul-1.node.dc1.consul", "server.dc2.consul"], True), (["consul-4.node.dc1.consul", "localhost"], False), ([], False)],
)
def test_the_certificate_of_a_server(names: list[str], expected: bool) -> None:
    assert is_server(make("n", make("authority"), names).pem) is expected


@pytest.mark.parametrize("text", ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"])
def test_what_is_no_certificate_makes_no_server(text: str) -> None:
    assert not is_server(text)
