# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said of real certificates, good and bad ones."""

from __future__ import annotations

import datetime
import typing as t

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ansible_collections.trinode.platform.plugins.plugin_utils._certificates import tls
from ansible_collections.trinode.platform.plugins.plugin_utils._certificates.tls import check_certificates, covers

NOW = datetime.datetime(2026, 6, 1, tzinfo=datetime.timezone.utc)
DAY = datetime.timedelta(days=1)
HOSTS = ["*.apps.example"]


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def key_pem(key: t.Any, password: str = "") -> str:
    encryption: t.Any = serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
    return str(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption).decode())


class Issuer:
    """A certificate authority."""

    def __init__(self, name: str, parent: Issuer | None = None) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = (parent or self).sign(self.name, self.key.public_key(), [], ca=True)

    def sign(
        self,
        subject: x509.Name,
        key: t.Any,
        hosts: t.Sequence[str],
        *,
        first: datetime.datetime = NOW - 10 * DAY,
        last: datetime.datetime = NOW + 100 * DAY,
        ca: bool = False,
        usage: x509.ObjectIdentifier | None = None,
    ) -> x509.Certificate:
        builder = x509.CertificateBuilder(self.name, subject, key, x509.random_serial_number(), first, last)
        builder = builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts]), critical=False)
        if usage:
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        return builder.sign(self.key, hashes.SHA256())


ROOT = Issuer("root")
MIDDLE = Issuer("middle", ROOT)
KEY = ec.generate_private_key(ec.SECP256R1())
OTHER_KEY = ec.generate_private_key(ec.SECP256R1())


def leaf(key: t.Any = KEY, hosts: t.Sequence[str] = HOSTS, **more: t.Any) -> x509.Certificate:
    return MIDDLE.sign(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "leaf")]), key.public_key(), hosts, **more)


GOOD = pem(leaf())
FILES = {"/tls/apps.crt": GOOD + pem(MIDDLE.certificate), "/tls/apps.key": key_pem(KEY)}


def read(path: str) -> str:
    if path not in FILES:
        raise FileNotFoundError(2, "No such file or directory", path)
    return FILES[path]


def check(certificate: str = GOOD, key: str = key_pem(KEY), hosts: t.Sequence[str] = HOSTS, name: str = "apps") -> t.Any:
    return check_certificates([{"name": name, "certificate": certificate, "key": key, "host_names": list(hosts)}], read, NOW)


@pytest.mark.parametrize(
    ("certificate", "key", "hosts"),
    [
        (GOOD, key_pem(KEY), HOSTS),
        ("/tls/apps.crt", "/tls/apps.key", ["web.apps.example", "*.apps.example"]),
        (GOOD + pem(MIDDLE.certificate) + pem(ROOT.certificate), key_pem(KEY), []),
        (pem(leaf(hosts=["web.apps.example", "OLD_ris.apps.example"])), key_pem(KEY), ["Web.apps.example", "old_ris.apps.example"]),
        (pem(leaf(usage=ExtendedKeyUsageOID.SERVER_AUTH)), key_pem(KEY), HOSTS),
        (GOOD, "\n" + key_pem(KEY), HOSTS),
    ],
)
def test_good(certificate: str, key: str, hosts: list[str]) -> None:
    checked = check(certificate, key, hosts)
    assert (checked.errors, checked.warnings) == ([], [])
    assert checked.expires == {"apps": NOW + 100 * DAY}


_RSA_SMALL = rsa.generate_private_key(65537, 1024)
_EDWARDS = ed25519.Ed25519PrivateKey.generate()


@pytest.mark.parametrize(
    ("certificate", "key", "message"),
    [
        ("/tls/none.crt", "/tls/apps.key", "its certificate /tls/none.crt can't be read on the control node"),
        ("/tls/apps.crt", "/tls/none.key", "its key /tls/none.key can't be read on the control node"),
        ("tls/apps.crt", "/tls/apps.key", "its certificate is neither PEM nor an absolute path"),
        ("/tls/apps.key", "/tls/apps.key", "/tls/apps.key holds no PEM certificate that can be read"),
        ("/tls/apps.crt", "/tls/apps.crt", "/tls/apps.crt holds no PEM private key that can be read; give the private key as PEM"),
        (GOOD, key_pem(KEY, "secret"), "certificate apps: the key in the variable is encrypted, and nginx would wait"),
        ("/tls/apps.crt", key_pem(OTHER_KEY), "the key in the variable does not belong to /tls/apps.crt; give the key"),
        (pem(MIDDLE.certificate) + GOOD, key_pem(KEY), "the certificate of the server is number 2 in the certificate in the variable; put it first"),
        (GOOD + pem(ROOT.certificate), key_pem(KEY), "certificate 2 in the certificate in the variable is not the issuer of certificate 1"),
        (pem(leaf(last=NOW - DAY)), key_pem(KEY), "is valid until 2026-05-31 00:00 UTC and so has expired; get a new one"),
        (pem(leaf(first=NOW + DAY)), key_pem(KEY), "is valid only from 2026-06-02 00:00 UTC on"),
        (pem(leaf(hosts=["web.apps.example"])), key_pem(KEY), "does not cover *.apps.example: it covers web.apps.example"),
        (pem(leaf(hosts=[])), key_pem(KEY), "does not cover *.apps.example: it covers no host name at all (no subjectAltName)"),
        (pem(leaf(usage=ExtendedKeyUsageOID.CLIENT_AUTH)), key_pem(KEY), "is not meant for servers"),
        (pem(leaf(_RSA_SMALL)), key_pem(_RSA_SMALL), "has an RSA key of 1024 bits, which OpenSSL refuses"),
        (pem(leaf(_EDWARDS)), key_pem(_EDWARDS), "has a key that is neither RSA nor ECDSA"),
    ],
)
def test_bad(certificate: str, key: str, message: str) -> None:
    checked = check(certificate, key)
    assert not checked.expires
    assert len(checked.errors) == 1
    text = str(checked.errors[0])
    assert text.startswith("certificate apps: ") and text.endswith(".")
    assert message in text
    assert "PRIVATE KEY-----" not in text


@pytest.mark.parametrize(
    ("certificates", "messages"),
    [
        (
            [{"name": "Apps"}],
            ["certificate 'Apps' has no good name; give it at most 32 lower-case letters, digits and hyphens, with a letter or digit at both ends."],
        ),
        ([{"name": "a"}, {"name": "a"}], ["two certificates are called a; give each a name of its own."]),
        (
            [{"name": "a", "host_names": ["a b"]}],
            ["certificate a: 'a b' in host_names is no host name; name hosts in full; *. in front stands for every name there."],
        ),
        ([{"name": "a", "key": None}], ["certificate a has no key; give it as a text."]),
        ([{"name": "", "certificate": 5}], ["certificate number 1 has no name and no certificate; give it as a text."]),
    ],
)
def test_bad_forms(certificates: list[dict[str, t.Any]], messages: list[str]) -> None:
    good = {"certificate": GOOD, "key": key_pem(KEY), "host_names": []}
    assert [str(error) for error in check_certificates([{**good, **one} for one in certificates], read, NOW).errors] == messages


def test_one_that_expires_soon_is_a_warning() -> None:
    checked = check(pem(leaf(last=NOW + 29 * DAY)))
    assert checked.errors == []
    assert [str(warning) for warning in checked.warnings] == [
        "certificate apps: the certificate in the variable expires in 29 days, on 2026-06-30; get a new one in time."
    ]


def test_a_missing_library_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "HAS_CRYPTOGRAPHY", False)
    assert "lacks the library cryptography; install it with pip." in str(check().errors[0])
    assert check_certificates([], read, NOW).errors == []


def test_all_errors_at_once() -> None:
    bad = {"name": "old", "certificate": pem(leaf(last=NOW - DAY)), "key": key_pem(KEY), "host_names": []}
    checked = check_certificates([bad, {**bad, "name": "other", "key": key_pem(OTHER_KEY)}], read, NOW)
    assert [error.message.split(":")[0] for error in checked.errors] == ["certificate old", "certificate other"]


@pytest.mark.parametrize(
    ("names", "host", "expected"),
    [
        (["a.x.example"], "a.x.example", True),
        (["*.x.example"], "a.x.example", True),
        (["*.x.example"], "*.x.example", True),
        (["a.x.example"], "*.x.example", False),
        (["*.x.example"], "x.example", False),
        (["*.x.example"], "a.b.x.example", False),
        ([], "a.x.example", False),
    ],
)
def test_covers(names: list[str], host: str, expected: bool) -> None:
    assert covers(names, host) is expected
