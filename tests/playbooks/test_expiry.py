# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What check_expiry.yml finds in the files of hosts, all of which are this machine, and with which status it ends."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
from control_node import ANSIBLE_PLAYBOOK, ROOT, inventory
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PRIVATE = "-----BEGIN PRIVATE KEY-----"


def certificate(days: int) -> str:
    """Return a certificate that ends so many days from now, and its key, as the edge has them in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "n1")])
    last = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=days, minutes=10)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(last - datetime.timedelta(days=400)).not_valid_after(last)
    made = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return (made + key.private_bytes(*form)).decode()


class Site:
    """The files of a site, and the playbook on them."""

    def __init__(self, place: Path) -> None:
        self.place = place
        for directory in ("consul", "edge", "secrets"):
            (place / directory).mkdir()
        for name in ("ca", "certificate"):
            self.write(f"consul/{name}", 200)
        self.write("edge/apps", 90)
        token = place / "secrets" / "consul_token_dns.txt"
        token.write_text("not shown", encoding="ascii")
        os.utime(token, (token.stat().st_atime, token.stat().st_mtime - 40 * 86400 - 60))
        (place / "hosts.json").write_text(json.dumps(inventory()), encoding="ascii")

    def write(self, name: str, days: int) -> None:
        (self.place / f"{name}.pem").write_text(certificate(days), encoding="ascii")

    def check(self, *arguments: str, **variables: t.Any) -> tuple[int, str]:
        """Return the status of the playbook, and what it prints, in one line."""
        given = {
            "ansible_connection": "local",
            "ansible_become": False,
            "ansible_python_interpreter": sys.executable,
            "platform_secrets_directory": str(self.place / "secrets"),
            "__consul_server_tls_directory": str(self.place / "consul"),
            "__nginx_tls_directory": str(self.place / "edge"),
            "__nginx_state": str(self.place / "state"),
            **variables,
        }
        command = [str(ANSIBLE_PLAYBOOK), "-i", str(self.place / "hosts.json"), str(ROOT / "playbooks" / "check_expiry.yml")]
        environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"), "ANSIBLE_NOCOLOR": "1"}
        done = subprocess.run(
            [*command, "-e", json.dumps(given), *arguments],
            cwd=self.place,
            env={**environment, "ANSIBLE_INJECT_FACT_VARS": "false"},
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        output = " ".join((done.stdout + done.stderr).split())
        assert PRIVATE not in output and "not shown" not in output
        return done.returncode, output


@pytest.fixture(name="site")
def fixture_site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_nothing_ends_soon(site: Site) -> None:
    status, output = site.check("-vvv")
    assert status == 0, output
    assert "The first certificate ends in 90 days." in output and "consul_token_dns.txt is the oldest of 1" in output
    assert "written 40 days ago" in output


def test_what_ends_within_thirty_days_fails_the_run(site: Site) -> None:
    site.write("consul/certificate", 29)
    site.write("edge/apps", 3)
    status, output = site.check()
    assert status == 2, output
    for name, days in (("consul/certificate", 29), ("edge/apps", 3)):
        assert f"{site.place}/{name}.pem ends in {days} days, on " in output
    # The third host is no edge, and is looked at as well.
    assert "consul-3" in output.partition("PLAY RECAP")[2] and output.partition("PLAY RECAP")[2].count("failed=1") == 3


def test_a_certificate_that_is_served_counts_although_another_was_given(site: Site) -> None:
    (site.place / "live" / "tls").mkdir(parents=True)
    site.write("live/tls/apps", 5)
    status, output = site.check(__nginx_state=str(site.place))
    assert status == 2 and f"{site.place}/live/tls/apps.pem ends in 5 days" in output


def test_another_number_of_days(site: Site) -> None:
    status, output = site.check("-e", "expiry_days=91")
    assert status == 2 and f"{site.place}/edge/apps.pem ends in 90 days" in output


def test_what_is_missing_does_not_pass(site: Site) -> None:
    (site.place / "consul" / "certificate.pem").unlink()
    (site.place / "consul" / "ca.pem").write_text("nothing", encoding="ascii")
    status, output = site.check()
    assert status == 2
    assert f"{site.place}/consul/certificate.pem cannot be read: No such file or directory" in output
    assert f"{site.place}/consul/ca.pem has no certificate that can be read" in output


def test_an_open_site_has_the_certificates_of_its_edges(site: Site) -> None:
    for path in (site.place / "consul").iterdir():
        path.unlink()
    status, output = site.check("-e", "platform_security=open")
    assert status == 0 and "The first certificate ends in 90 days." in output
