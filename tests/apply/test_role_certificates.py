# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role's tasks for certificates, run by Ansible itself: what gets to the host, and what nobody sees on the way."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
NOW = datetime.datetime.now(datetime.timezone.utc)

PLAYBOOK = """
- name: Certificates
  hosts: all
  gather_facts: false
  tasks:
    - name: Check
      trinode.platform.tls_certificates:
        certificates: "{{ nginx_tls_certificates }}"
      register: checked
    - name: Tell
      ansible.builtin.debug:
        msg: "EXPIRES {{ checked.expires | to_json }} END"
    - name: Write
      ansible.builtin.include_role:
        name: trinode.platform.nginx
        tasks_from: certificates
"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the role gives the files to root")


def pair(directory: Path, name: str, days: int = 90) -> dict[str, t.Any]:
    """A self-signed certificate and its key as files, as the role's variable names them."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    day = datetime.timedelta(days=1)
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number(), NOW - 200 * day, NOW + days * day)
    made = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("*.apps.example")]), critical=False).sign(key, hashes.SHA256())
    (directory / f"{name}.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (directory / f"{name}.key").write_bytes(secret)
    return {"name": name, "host_names": ["*.apps.example"], "certificate": f"{directory}/{name}.crt", "key": f"{directory}/{name}.key"}


class Site:
    """A directory that stands for the host's, and a way to run the tasks."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.target = directory, directory / "tls"
        self.target.mkdir()
        (directory / "play.yml").write_text(PLAYBOOK)
        (directory / "hosts.yml").write_text(
            json.dumps({"all": {"hosts": {"edge-1": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}}}})
        )

    def run(self, certificates: list[dict[str, t.Any]], *arguments: str) -> tuple[int, str]:
        """Run the tasks; status and output, which never holds a key."""
        variables = {"nginx_tls_certificates": certificates, "__nginx_tls_directory": str(self.target)}
        environment = {
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_LOCAL_TEMP": str(self.directory / "tmp"),
            "ANSIBLE_NOCOLOR": "1",
        }
        done = subprocess.run(
            [str(BIN / "ansible-playbook"), "-i", "hosts.yml", "play.yml", "--diff", "-vv", "-e", json.dumps(variables), *arguments],
            cwd=self.directory,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        output = done.stdout + done.stderr
        assert "PRIVATE KEY" not in output
        return done.returncode, output


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A host without certificates."""
    return Site(tmp_path)


def test_certificates_come_change_and_go(site: Site) -> None:
    apps, shop = pair(site.directory, "apps"), pair(site.directory, "shop")
    status, output = site.run([apps, shop], "--check")
    assert status == 0, output
    assert not list(site.target.iterdir())
    status, output = site.run([apps, shop])
    assert status == 0 and "changed=1" in output, output
    assert sorted(path.name for path in site.target.iterdir()) == ["apps.pem", "shop.pem"]
    assert {path.stat().st_mode & 0o777 for path in site.target.iterdir()} == {0o600}
    assert (site.target / "apps.pem").read_text() == Path(apps["certificate"]).read_text() + Path(apps["key"]).read_text()
    assert "EXPIRES" in output
    status, output = site.run([apps, shop])
    assert status == 0 and "changed=0" in output, output
    # As PEM in the variable it is the same file.
    status, output = site.run([{**apps, "certificate": Path(apps["certificate"]).read_text(), "key": Path(apps["key"]).read_text()}, shop])
    assert status == 0 and "changed=0" in output, output
    (site.target / "apps.pem").chmod(0o644)
    status, output = site.run([pair(site.directory, "apps")])
    assert status == 0 and "changed=1" in output, output
    assert [path.name for path in site.target.iterdir()] == ["apps.pem"]
    assert (site.target / "apps.pem").stat().st_mode & 0o777 == 0o600


def test_a_bad_certificate_changes_nothing(site: Site) -> None:
    good = pair(site.directory, "good")
    status, output = site.run([good, pair(site.directory, "old", -1), {**good, "name": "other", "key": pair(site.directory, "x")["key"]}])
    assert status != 0
    assert f"edge-1: certificate old: {site.directory}/old.crt is valid until" in output
    assert f"certificate other: {site.directory}/x.key does not belong to {site.directory}/good.crt; give the key" in output
    assert not list(site.target.iterdir())


def test_one_that_expires_soon_is_a_warning(site: Site) -> None:
    status, output = site.run([pair(site.directory, "soon", 5)])
    assert status == 0, output
    assert f"edge-1: certificate soon: {site.directory}/soon.crt expires in" in " ".join(output.split())


def test_a_key_in_the_vault(site: Site) -> None:
    apps = pair(site.directory, "apps")
    plain = Path(apps["key"]).read_text()
    (site.directory / "password").write_text("vault password\n")
    command = [str(BIN / "ansible-vault"), "encrypt", "--vault-password-file", "password", apps["key"]]
    subprocess.run(command, cwd=site.directory, check=True, capture_output=True, timeout=60)
    assert plain not in Path(apps["key"]).read_text()
    status, output = site.run([apps], "--vault-password-file", "password")
    assert status == 0, output
    assert (site.target / "apps.pem").read_text().endswith(plain)
    status, output = site.run([apps])
    assert status != 0 and "its key " in output and "can't be read on the control node" in " ".join(output.split()), output
