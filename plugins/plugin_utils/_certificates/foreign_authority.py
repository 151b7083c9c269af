# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The authority of another site as this one trusts it: for every name but those of some data centres.

Private to the collection. No Ansible import.

Whom an agent trusts, it trusts for every name. The authority of another site could issue a certificate of a server of this one, and whoever has such a
certificate speaks Raft. So what is trusted is not the other site's own certificate, but one with its name and its key and with name constraints beside
(RFC 5280, section 4.2.1.10). A certificate that is trusted as a root needs no signature of anybody, and Go, with which Consul is built, looks at none there.
"""

from __future__ import annotations

import hashlib
import re
import typing as t
from collections.abc import Iterator, Sequence

try:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.x509.oid import NameOID
except ImportError:
    # ansible-core brings it along, but Ansible wants to be able to load every plugin without it.
    pass

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----\r?\n.*?\r?\n-----END CERTIFICATE-----", re.DOTALL)


class AuthorityError(Exception):
    """What was given is no authority; the message says why."""


def restrict(authority: str, excluded: Sequence[str]) -> str:
    """The same authorities, for no name in these domains. Equal arguments give equal text.

    Args:
        authority: certificates of authorities, PEM.
        excluded: domains in which they may not issue anything.
    """
    for domain in excluded:
        if not _DOMAIN.fullmatch(domain):
            raise AuthorityError(f"{domain!r} is no domain")
    return "\n".join(_restricted(certificate, excluded) for certificate in read(authority))


def read(authority: str) -> list[x509.Certificate]:
    """The certificates in a text, each of which must be an authority."""
    if "PRIVATE KEY-----" in authority:
        raise AuthorityError("it holds a private key, which belongs to nobody but its own site")
    blocks = _PEM.findall(authority)
    if not blocks or _PEM.sub("", authority).strip():
        raise AuthorityError("it is no PEM certificate, or holds something else beside")
    try:
        found = [x509.load_pem_x509_certificate(block.encode()) for block in blocks]
    except ValueError as error:
        raise AuthorityError("it is no PEM certificate") from error
    for certificate in found:
        try:
            basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        except x509.ExtensionNotFound:
            basic = None
        if basic is None or not basic.ca:
            raise AuthorityError(f"the certificate of {certificate.subject.rfc4514_string()!r} is not one of an authority")
    return found


def certificates(text: str) -> str:
    """Only the certificates of a text: people keep comments beside them."""
    return "\n".join(_PEM.findall(text))


def _restricted(certificate: x509.Certificate, excluded: Sequence[str]) -> str:
    constraints = x509.NameConstraints(None, [x509.DNSName(domain.lower()) for domain in excluded]) if excluded else None
    fingerprint = certificate.fingerprint(hashes.SHA256())
    builder = (
        x509.CertificateBuilder()
        .subject_name(certificate.subject)
        .public_key(certificate.public_key())
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"trinode.platform, restricted {fingerprint.hex()[:16]}")]))
        .serial_number(certificate.serial_number)
        .not_valid_before(certificate.not_valid_before_utc)
        .not_valid_after(certificate.not_valid_after_utc)
    )
    for value, critical in _extensions(certificate, constraints):
        builder = builder.add_extension(value, critical)
    # Nobody looks at the signature. This one is the same in every run, so that the file is.
    seed = hashlib.sha256(b"\0".join([b"trinode.platform", fingerprint, *(domain.encode() for domain in excluded)])).digest()
    return builder.sign(Ed25519PrivateKey.from_private_bytes(seed), None).public_bytes(serialization.Encoding.PEM).decode().strip()


def _extensions(certificate: x509.Certificate, constraints: x509.NameConstraints | None) -> Iterator[tuple[t.Any, bool]]:
    """Those of the certificate, but for who issued it, with the constraints added to its own ones."""
    for extension in certificate.extensions:
        value = extension.value
        if isinstance(value, x509.AuthorityKeyIdentifier):
            continue
        if isinstance(value, x509.NameConstraints) and constraints is not None:
            own = list(value.excluded_subtrees or ())
            added = [one for one in constraints.excluded_subtrees or () if one not in own]
            yield x509.NameConstraints(value.permitted_subtrees, [*own, *added]), True
            constraints = None
            continue
        yield value, extension.critical
    if constraints is not None:
        yield constraints, True
