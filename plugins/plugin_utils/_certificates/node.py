# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A certificate with which a node speaks to the other nodes: whether they would believe it, and for how long.

Private to the collection. No Ansible import. Nothing that is said holds a part of a key.
"""

from __future__ import annotations

import datetime
import ipaddress
import re
import typing as t
from collections.abc import Iterator, Sequence

try:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.x509.oid import ExtendedKeyUsageOID
except ImportError:
    # ansible-core brings it along, but Ansible wants to be able to load every plugin without it.
    pass


_BORDER = re.compile(r"-----(?:BEGIN|END) [A-Z0-9 ]+-----")


class State(t.NamedTuple):
    """What is wrong with a certificate now, and what will be."""

    #: Why others would refuse it, or why it is not the one that is wanted. Half sentences; empty when it is good.
    problems: list[str]
    #: Whole days until it ends; negative when it has ended, 0 when that cannot be told.
    days: int
    #: The same of the authority, of the first of its certificates to end.
    authority_days: int


def judge(certificate: str, key: str, authority: str, names: Sequence[str], now: datetime.datetime) -> State:
    """Judge a certificate.

    Args:
        certificate: PEM; what follows the first one are its issuers.
        key: its private key, PEM.
        authority: the certificates that the nodes trust, PEM.
        names: DNS names and addresses that it has to carry.
        now: the time for which to judge.
    """
    if not certificate or not key or not authority:
        missing = [what for what, text in (("certificate", certificate), ("key", key), ("authority", authority)) if not text]
        return State([f"there is no {' and no '.join(missing)}"], 0, 0)
    for what, text in (("certificate", certificate), ("authority", authority)):
        # What is read here is more lenient than Go, for which a line of PEM's borders holds nothing else (RFC 7468, section 3).
        bad = next((line for line in text.splitlines() if "-----" in line and not _BORDER.fullmatch(line.rstrip())), None)
        if bad is not None:
            return State([f"{what}: {bad[:80]!r} is no line of its own, as PEM wants it"], 0, 0)
    try:
        chain = x509.load_pem_x509_certificates(certificate.encode())
        roots = x509.load_pem_x509_certificates(authority.encode())
    except ValueError:
        return State(["the certificate or its authority is no PEM certificate"], 0, 0)
    leaf = chain[0]
    problems = [*_dates(leaf, roots, now), *_issuer(chain, roots), *_pair(leaf, key), *_names(leaf, names), *_purpose(leaf)]
    return State(problems, (leaf.not_valid_after_utc - now).days, min((root.not_valid_after_utc - now).days for root in roots))


def _dates(leaf: x509.Certificate, roots: Sequence[x509.Certificate], now: datetime.datetime) -> Iterator[str]:
    for what, one in [("it", leaf), *(("its authority", root) for root in roots)]:
        if one.not_valid_after_utc <= now:
            yield f"{what} ended at {one.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
    if leaf.not_valid_before_utc > now + datetime.timedelta(minutes=5):
        yield f"it begins only at {leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"


def _issuer(chain: Sequence[x509.Certificate], roots: Sequence[x509.Certificate]) -> Iterator[str]:
    last = chain[0]
    for issuer in chain[1:]:
        if not _signed(last, issuer):
            yield "its chain is out of order"
            return
        last = issuer
    if not any(last == root or _signed(last, root) for root in roots):
        yield "the authority has not issued it"


def _signed(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _pair(leaf: x509.Certificate, key: str) -> Iterator[str]:
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    try:
        private = serialization.load_pem_private_key(key.encode(), password=None)
    except TypeError:
        yield "its key is encrypted, and the agent could not read it"
    except (ValueError, UnsupportedAlgorithm):
        # The error's own text may quote the key.
        yield "its key is no PEM private key"
    else:
        if private.public_key().public_bytes(*form) != leaf.public_key().public_bytes(*form):
            yield "its key belongs to another certificate"


def _names(leaf: x509.Certificate, wanted: Sequence[str]) -> Iterator[str]:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        carried = set()
    else:
        carried = {*names.get_values_for_type(x509.DNSName), *(str(address) for address in names.get_values_for_type(x509.IPAddress))}
    lacking = [name for name in wanted if _plain(name) not in carried]
    if lacking:
        yield f"it does not carry {', '.join(lacking)}"
    # Whoever has a certificate with this name may be a server of the cluster.
    servers = [name for name in carried if name.startswith("server.") and name not in wanted]
    if servers:
        yield f"it carries {', '.join(sorted(servers))}, though its node is no server"


def is_server(certificate: str) -> bool:
    """Return whether a certificate lets its owner be a server of a cluster; False where it is no certificate."""
    try:
        (leaf, *_issuers) = x509.load_pem_x509_certificates(certificate.encode())
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        return False
    return any(name.startswith("server.") for name in names.get_values_for_type(x509.DNSName))


def _plain(name: str) -> str:
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name


def _purpose(leaf: x509.Certificate) -> Iterator[str]:
    try:
        usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    for what, purpose in (("servers", ExtendedKeyUsageOID.SERVER_AUTH), ("clients", ExtendedKeyUsageOID.CLIENT_AUTH)):
        if purpose not in usage:
            yield f"it is not meant for {what}"
