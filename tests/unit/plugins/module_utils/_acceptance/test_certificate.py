# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The CA and certificate of one run, used by a real TLS handshake."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from ansible_collections.trinode.platform.plugins.module_utils._acceptance import certificate as certificates
from ansible_collections.trinode.platform.plugins.module_utils._acceptance import tools

pytest.importorskip("cryptography")


def handshake(ca: str, certificate: str, key: str, directory: Path, name: str) -> None:
    (directory / "c.pem").write_text(certificate)
    (directory / "k.pem").write_text(key)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(directory / "c.pem", directory / "k.pem")
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = tools.tls_context(ca).wrap_bio(to_client, to_server, server_hostname=name)
    two = server.wrap_bio(to_server, to_client, server_side=True)
    for _round in range(5):
        for side in (one, two):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert one.getpeercert(binary_form=True) == ssl.PEM_cert_to_DER_cert(certificate)


def test_the_certificate_is_good_for_its_ca_and_name(tmp_path: Path) -> None:
    handshake(*certificates.make(["httpsfront.apps.example.org"], 30), tmp_path, "httpsfront.apps.example.org")


def test_another_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(*certificates.make(["httpsfront.apps.example.org"], 30), tmp_path, "web.apps.example.org")


def test_another_ca_is_refused(tmp_path: Path) -> None:
    _ca, certificate, key = certificates.make(["a.example.org"], 30)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(certificates.make(["a.example.org"], 30)[0], certificate, key, tmp_path, "a.example.org")


def test_long_names_fit() -> None:
    assert "BEGIN CERTIFICATE" in certificates.make(["httpsfront." + "a" * 60 + ".example.org"], 1)[1]
