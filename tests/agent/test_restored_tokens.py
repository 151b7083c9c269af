# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tokens after a restore, by the steps of restore.yml against a real Consul: which are valid, and which ended."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
import typing as t
import uuid
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

from edge_rig import Consul, tool
from local_play import play

from ansible_collections.trinode.platform.plugins.module_utils._consul import acl

PROGRAM = ROOT / "roles" / "consul_backup" / "files" / "consul_backup.py"
RULES = {
    "dns": 'node_prefix "" { policy = "read" }',
    "automation": 'node_prefix "" { policy = "write" } agent_prefix "" { policy = "read" }',
    "backup": 'acl = "write"',
}
# The steps that restore.yml takes on a secure site, with the program itself in the place of the role that installs it.
STEPS = """
- name: Restore
  hosts: all
  gather_facts: false
  tasks:
    - name: Known
      ansible.builtin.include_role: {name: trinode.platform.consul_acl, tasks_from: known}
    - name: Data
      ansible.builtin.command: {argv: "{{ program + ['restore', snapshot, '--data-only'] }}"}
    - name: Tokens
      ansible.builtin.include_role: {name: trinode.platform.consul_acl}
      vars: {consul_acl_purge: true, consul_acl_reset: true}
    - name: Revived
      ansible.builtin.include_role: {name: trinode.platform.consul_acl, tasks_from: revived}
    - name: Finish
      ansible.builtin.command: {argv: "{{ program + ['finish'] }}"}
"""
LOST = """
- name: Lost
  hosts: all
  gather_facts: false
  tasks:
    - name: Tokens
      ansible.builtin.include_role: {name: trinode.platform.consul_acl}
"""


class Site:
    """One server with ACLs, and the secrets of its control node."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.directory, self.data = directory, directory / "data"
        self.data.mkdir()
        binary = tool("consul", "CONSUL_BIN")
        self.agent = Consul(binary, directory, acl={"enabled": True, "default_policy": "deny"}, data_dir=str(self.data))
        self.url = f"http://{self.agent.address}"
        self.secrets = {name: str(uuid.uuid4()) for name in ("management", *RULES)}
        config = {"directory": str(directory / "backups"), "consul": binary, "url": self.url, "timeout": 30}
        config |= {
            "token_file": str(directory / "backup.token"),
            "restored_token_file": str(directory / "automation.token"),
        }
        (directory / "config.json").write_text(json.dumps(config), encoding="ascii")
        self.program = [sys.executable, "-IB", str(PROGRAM), "--config", str(directory / "config.json")]
        assert acl.bootstrap(self.management(), 30).state == "made"
        self.give_tokens()

    def management(self) -> acl.AclApi:
        return acl.AclApi(self.url, self.secrets["management"])

    def wanted(self) -> list[acl.Wanted]:
        return [acl.Wanted(name, self.secrets[name], rules) for name, rules in RULES.items()]

    def give_tokens(self) -> None:
        """Make the tokens of the secrets, end others of the platform, and write the nodes' files, as the playbooks do."""
        client = self.management()
        acl.apply(client, acl.plan(self.wanted(), client.policies(), client.tokens(), "dc1"), purge=True)
        for name in ("backup", "automation"):
            (self.directory / f"{name}.token").write_text(self.secrets[name], encoding="ascii")

    def rotate(self) -> None:
        """Rotate every token, that of management too."""
        former, client = self.secrets["management"], self.management()
        self.secrets = {name: str(uuid.uuid4()) for name in self.secrets}
        body = {
            "SecretID": self.secrets["management"],
            "Description": "Management token",
            "Policies": [{"Name": acl.MANAGEMENT_POLICY}],
        }
        client.call("PUT", "/v1/acl/token", body)
        (old,) = [token for token in client.tokens() if token["SecretID"] == former]
        self.management().call("DELETE", f"/v1/acl/token/{old['AccessorID']}")
        self.give_tokens()

    def make(self, description: str) -> dict[str, t.Any]:
        """Return a token that the operator, or somebody else, made."""
        body = {"Description": description, "Policies": [{"Name": acl.MANAGEMENT_POLICY}]}
        return t.cast("dict[str, t.Any]", self.management().call("PUT", "/v1/acl/token", body))

    def take(self) -> str:
        """Return a snapshot, as a copy that outlives the site."""
        done = subprocess.run([*self.program, "take"], capture_output=True, text=True, check=True)
        return str(json.loads(done.stdout)["file"])

    def valid(self, secret: str) -> bool:
        try:
            return bool(acl.AclApi(self.url, secret).call("GET", "/v1/acl/token/self"))
        except acl.Refused as error:
            if error.status != 403:
                raise
            return False

    def restore(self, snapshot: str) -> str:
        return self.play(STEPS, snapshot=snapshot)

    def play(self, playbook: str, check: bool = True, **more: t.Any) -> str:
        """Return what a playbook prints, in one line."""
        variables = {
            "program": self.program,
            "consul_acl_url": self.url,
            "consul_acl_management_token": self.secrets["management"],
            "consul_acl_tokens": [one._asdict() for one in self.wanted()],
            "consul_acl_servers": [{"host": "n1", "address": "127.0.0.1"}],
            "consul_acl_data_directory": str(self.data),
            "consul_acl_agent_user": pwd.getpwuid(os.getuid()).pw_name,
            **more,
        }
        done = play(self.directory, playbook, **variables)
        assert (done.status == 0) is check, done.output
        return done.text


@pytest.fixture(name="sites")
def fixture_sites(tmp_path: Path, stopped_afterwards: list[Consul]) -> t.Callable[[str], Site]:
    def start(name: str) -> Site:
        site = Site(tmp_path / name)
        stopped_afterwards.append(site.agent)
        return site

    return start


def test_what_was_revoked_stays_revoked(sites: t.Callable[[str], Site]) -> None:
    """A stolen token was ended by a rotation; then a snapshot from before comes back."""
    site = sites("one")
    kept, stolen = site.make("ours, in use"), site.make("left by an attacker")
    client = site.management()
    role = client.call("PUT", "/v1/acl/role", {"Name": "left-role", "Policies": [{"Name": acl.MANAGEMENT_POLICY}]})
    former = dict(site.secrets)
    snapshot = site.take()
    client.call("DELETE", f"/v1/acl/token/{stolen['AccessorID']}")
    client.call("DELETE", f"/v1/acl/role/{role['ID']}")
    site.rotate()
    assert not any(map(site.valid, [stolen["SecretID"], *former.values()]))

    output = site.restore(snapshot)

    assert all(map(site.valid, site.secrets.values())), "the tokens that the nodes have are valid"
    assert site.valid(kept["SecretID"]), "what was there before and in the snapshot stays"
    assert not any(map(site.valid, [stolen["SecretID"], *former.values()])), "what was ended stays ended"
    assert [one["Name"] for one in site.management().call("GET", "/v1/acl/roles") or []] == []
    assert "Ended, because they were deleted after the snapshot was taken" in output
    for named in (stolen["AccessorID"], "left by an attacker", "left-role"):
        assert named in output
    assert not [secret for secret in (stolen["SecretID"], *former.values(), *site.secrets.values()) if secret in output]


def test_tokens_of_a_lost_cluster_are_listed_and_stay(sites: t.Callable[[str], Site]) -> None:
    """Three new servers know nothing of what was revoked on the old ones, and must not end the operator's tokens."""
    old = sites("old")
    theirs = old.make("of the operator's programs")
    snapshot = old.take()
    old.agent.stop()
    new = sites("new")
    unknown = new.make("made on the new servers, and not in the snapshot")

    output = new.restore(snapshot)

    assert all(map(new.valid, new.secrets.values()))
    assert new.valid(theirs["SecretID"]) and not new.valid(unknown["SecretID"])
    assert "These came with the snapshot of another cluster" in output and theirs["AccessorID"] in output
    assert not new.valid(old.secrets["dns"]), "a token of the platform that the secrets do not have ends"


def test_a_site_whose_secrets_are_lost_gets_new_ones(sites: t.Callable[[str], Site]) -> None:
    """The way back that needs nothing of the old secrets: the reset of the management token, then the end of old ones."""
    site = sites("lost")
    former = dict(site.secrets)
    site.secrets = {name: str(uuid.uuid4()) for name in site.secrets}
    refused = site.play(LOST, check=False)
    assert "consul_acl_reset=true" in refused and not site.valid(site.secrets["management"])

    site.play(LOST, consul_acl_reset=True)
    assert all(map(site.valid, site.secrets.values()))
    assert all(map(site.valid, former.values())), "old tokens are valid until every reader has a new one"

    site.play(LOST, consul_acl_purge=True)
    assert all(map(site.valid, site.secrets.values()))
    assert not any(site.valid(former[name]) for name in RULES), "rotate_tokens.yml ends those of the platform"
