# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates that the operator gives: whether nginx would take them and clients would believe them.

Private to the collection. No Ansible import. Messages name files and names, never what a key file holds.
"""

from __future__ import annotations

import datetime
import re
import typing as t
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

try:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.x509.oid import ExtendedKeyUsageOID
except ImportError:
    # ansible-core brings it along, but Ansible wants to be able to load every plugin without it.
    HAS_CRYPTOGRAPHY = False
else:
    HAS_CRYPTOGRAPHY = True

PEM = "-----BEGIN "
_REQUIRED = ("name", "certificate", "key")
# Names in the edge description obey the same rule.
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
_HOST = re.compile(r"(?=.{1,253}\Z)(?:\*\.)?(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
# What OpenSSL's default security level asks for, and nginx with it.
_MIN_RSA_BITS = 2048
# A clock may go wrong by so much before a new certificate is said to be of the future.
_CLOCK_SKEW = datetime.timedelta(minutes=5)
WARN_DAYS = 30


class _Fault(Exception):
    """Why a certificate can't be used, and what to do: two halves of a sentence."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


@dataclass(frozen=True)
class Finding:
    """What is wrong with a certificate, or will be: a sentence without its full stop, and what to do."""

    message: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}."


@dataclass
class Checked:
    """Everything that was found, and when each good certificate ends."""

    errors: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)
    expires: dict[str, datetime.datetime] = field(default_factory=dict)


def _text(what: str, value: str, read: Callable[[str], str]) -> tuple[str, str]:
    """A PEM text and what to call it, from the text itself or from a file on the control node."""
    if value.lstrip().startswith(PEM):
        return value, f"the {what} in the variable"
    if not value.startswith("/"):
        raise _Fault(
            f"its {what} is neither PEM nor an absolute path", f"give the path of the {what} on the control node, such as {{{{ inventory_dir }}}}/tls/..."
        )
    try:
        return read(value), value
    except (OSError, ValueError, RuntimeError) as error:
        raise _Fault(f"its {what} {value} can't be read on the control node: {error}", "correct the path, or make the file readable") from error


def _chain(text: str, where: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(text.encode())
    except ValueError as error:
        raise _Fault(
            f"{where} holds no PEM certificate that can be read ({error})", "give the certificate, followed by those of its issuers, as PEM"
        ) from error


def _key(text: str, where: str) -> t.Any:
    try:
        return serialization.load_pem_private_key(text.encode(), password=None)
    except TypeError as error:
        raise _Fault(f"{where} is encrypted, and nginx would wait for its passphrase", "take that off: openssl pkey -in FILE -out FILE.new") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        # The error's own text may quote the file.
        raise _Fault(f"{where} holds no PEM private key that can be read", "give the private key as PEM, in one BEGIN PRIVATE KEY block") from error


def _public(key: t.Any) -> bytes:
    return bytes(key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo))


def _belong(chain: Sequence[x509.Certificate], key: t.Any, where: str, key_where: str) -> None:
    wanted = _public(key.public_key())
    if _public(chain[0].public_key()) == wanted:
        return
    for number, other in enumerate(chain[1:], 2):
        if _public(other.public_key()) == wanted:
            raise _Fault(f"the certificate of the server is number {number} in {where}", "put it first, its issuer next, and so on")
    raise _Fault(f"{key_where} does not belong to {where}", "give the key that the certificate was made with")


def _issuers(chain: Sequence[x509.Certificate], where: str) -> None:
    for number, (one, issuer) in enumerate(zip(chain, chain[1:]), 1):
        try:
            one.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature) as error:
            remedy = "put the server's certificate first, its issuer next, and so on"
            raise _Fault(f"certificate {number + 1} in {where} is not the issuer of certificate {number}", remedy) from error


def _strength(leaf: x509.Certificate, where: str) -> None:
    key = leaf.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < _MIN_RSA_BITS:
            raise _Fault(f"{where} has an RSA key of {key.key_size} bits, which OpenSSL refuses", f"get one with {_MIN_RSA_BITS} bits or more")
    elif not isinstance(key, ec.EllipticCurvePublicKey):
        raise _Fault(f"{where} has a key that is neither RSA nor ECDSA, which browsers refuse", "get a certificate with an RSA or ECDSA key")
    if isinstance(leaf.signature_hash_algorithm, (hashes.MD5, hashes.SHA1)):
        raise _Fault(f"{where} is signed with {leaf.signature_hash_algorithm.name.upper()}, which OpenSSL refuses", "get one that is signed with SHA-256")


def _usage(leaf: x509.Certificate, where: str) -> None:
    try:
        usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    if not {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & set(usage):
        raise _Fault(f"{where} is not meant for servers (its extended key usage lacks serverAuth)", "get a certificate for a server")


def _names(leaf: x509.Certificate) -> list[str]:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [name.lower() for name in names.get_values_for_type(x509.DNSName)]


def covers(names: Sequence[str], host: str) -> bool:
    """Whether one of a certificate's names is the host name, or ``*.`` and all behind its first label."""
    return host in names or f"*.{host.partition('.')[2]}" in names


def _covered(leaf: x509.Certificate, hosts: Sequence[str], where: str) -> None:
    names = _names(leaf)
    missing = [host for host in hosts if not covers(names, host)]
    if missing:
        listed = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "") or "no host name at all (no subjectAltName)"
        raise _Fault(f"{where} does not cover {', '.join(missing)}: it covers {listed}", "get one that does, or take the name out of host_names")


def _times(leaf: x509.Certificate, where: str, now: datetime.datetime) -> datetime.datetime:
    first, last = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    if last <= now:
        raise _Fault(f"{where} is valid until {last:%Y-%m-%d %H:%M} UTC and so has expired", "get a new one")
    if first > now + _CLOCK_SKEW:
        raise _Fault(f"{where} is valid only from {first:%Y-%m-%d %H:%M} UTC on", "wait, get another one, or set the clock of the control node")
    return last


def _check(certificate: Mapping[str, t.Any], read: Callable[[str], str], now: datetime.datetime) -> tuple[datetime.datetime, str]:
    """When the certificate ends, and what to call it."""
    hosts = [str(host).lower() for host in certificate.get("host_names") or ()]
    for host in hosts:
        if not _HOST.fullmatch(host):
            raise _Fault(f"{host!r} in host_names is no host name", "name hosts in full; *. in front stands for every name there")
    text, where = _text("certificate", str(certificate["certificate"]), read)
    key_text, key_where = _text("key", str(certificate["key"]), read)
    chain = _chain(text, where)
    _belong(chain, _key(key_text, key_where), where, key_where)
    _issuers(chain, where)
    _strength(chain[0], where)
    _usage(chain[0], where)
    _covered(chain[0], hosts, where)
    return _times(chain[0], where, now), where


def _forms(certificates: Sequence[Mapping[str, t.Any]]) -> Iterator[Finding]:
    """What is wrong before anything is read."""
    seen: set[str] = set()
    for number, certificate in enumerate(certificates, 1):
        name = str(certificate.get("name") or "")
        missing = [key for key in _REQUIRED if not isinstance(certificate.get(key), str) or not certificate[key]]
        if missing:
            yield Finding(f"certificate {name or f'number {number}'} has no {' and no '.join(missing)}", "give it as a text")
        elif not _NAME.fullmatch(name):
            remedy = "give it at most 32 lower-case letters, digits and hyphens, with a letter or digit at both ends"
            yield Finding(f"certificate {name!r} has no good name", remedy)
        elif name in seen:
            yield Finding(f"two certificates are called {name}", "give each a name of its own")
        seen.add(name)


def file_reader(loader: t.Any) -> Callable[[str], str]:
    """Reads files of the control node by Ansible's loader, which opens the vault, too."""

    def read(path: str) -> str:
        try:
            return str(loader.get_text_file_contents(path))
        except Exception as error:
            # Ansible's errors are none of those that this module knows.
            raise ValueError(getattr(error, "message", str(error))) from error

    return read


def check_certificates(certificates: Sequence[Mapping[str, t.Any]], read: Callable[[str], str], now: datetime.datetime) -> Checked:
    """Judge all certificates; one error for each bad one.

    Args:
        certificates: each with ``name``, ``certificate`` and ``key`` (PEM, or the absolute path of a file on the control node) and the ``host_names``
            that it has to cover.
        read: gives the text of a file; an ``OSError``, ``ValueError`` or ``RuntimeError`` of it becomes an error of the certificate.
        now: the time, with its zone.
    """
    checked = Checked(errors=list(_forms(certificates)))
    if certificates and not HAS_CRYPTOGRAPHY:
        checked.errors.append(Finding("the certificates can't be checked: Python on the control node lacks the library cryptography", "install it with pip"))
    if checked.errors:
        return checked
    for certificate in certificates:
        name = str(certificate["name"])
        try:
            last, where = _check(certificate, read, now)
        except _Fault as fault:
            checked.errors.append(Finding(f"certificate {name}: {fault.message}", fault.remedy))
            continue
        checked.expires[name] = last
        days = (last - now).days
        if days < WARN_DAYS:
            checked.warnings.append(Finding(f"certificate {name}: {where} expires in {days} days, on {last:%Y-%m-%d}", "get a new one in time"))
    return checked
