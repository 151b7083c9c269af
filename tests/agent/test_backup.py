# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots of a real Consul that guards itself with ACLs, restored in a new one that bears the old one's name."""

from __future__ import annotations

import base64
import json
import sys
import typing as t
import urllib.error
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "roles" / "consul_backup" / "files")]

import consul_backup
from edge_rig import Consul, poll, tool

from ansible_collections.trinode.platform.plugins.plugin_utils._sites.tokens import SITE_WIDE

MANAGEMENT = "00000000-0000-0000-0000-000000000001"


class Site:
    """One server with ACLs, and the program's configuration for it."""

    def __init__(self, directory: Path, backups: Path) -> None:
        directory.mkdir()
        binary = tool("consul", "CONSUL_BIN")
        acl = {"enabled": True, "default_policy": "deny", "tokens": {"initial_management": MANAGEMENT, "agent": MANAGEMENT}}
        self.agent = Consul(binary, directory, acl=acl)
        self.token_file = directory / "token"
        self.token_file.write_text(f"{MANAGEMENT}\n", encoding="ascii")
        self.config = consul_backup.Config(str(backups), keep=1, consul=binary, url=f"http://{self.agent.address}", token_file=str(self.token_file), timeout=30)
        poll("the server has its ACLs and knows itself", self.knows_itself)

    def ask(self, path: str, body: t.Any = None, token: str = MANAGEMENT) -> t.Any:
        data = None if body is None else json.dumps(body).encode()
        method = "GET" if body is None else "PUT"
        request = urllib.request.Request(f"http://{self.agent.address}{path}", data=data, method=method, headers={"X-Consul-Token": token})
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.loads(answer.read() or b"null")

    def node_id(self) -> str:
        return str(self.ask("/v1/agent/self")["Config"]["NodeID"])

    def knows_itself(self) -> bool:
        """Whether the catalogue's entry of the server is this very server."""
        try:
            return [node["ID"] for node in self.ask("/v1/catalog/nodes") if node["Node"] == "edge-under-test"] == [self.node_id()]
        except urllib.error.HTTPError:
            return False


@pytest.fixture(name="sites")
def fixture_sites(tmp_path: Path, stopped_afterwards: list[Consul]) -> t.Callable[[str], Site]:
    def start(name: str) -> Site:
        site = Site(tmp_path / name, tmp_path / "backups")
        stopped_afterwards.append(site.agent)
        return site

    return start


def test_a_new_server_of_the_same_name_gets_everything_back(sites: t.Callable[[str], Site]) -> None:
    old = sites("old")
    old.ask("/v1/kv/answer", 42)
    policy = old.ask("/v1/acl/policy", {"Name": "reader", "Rules": 'key_prefix "" { policy = "read" }'})
    reader = old.ask("/v1/acl/token", {"Policies": [{"ID": policy["ID"]}]})["SecretID"]
    old.ask("/v1/agent/service/register", {"Name": "web", "Port": 80})
    poll("the catalogue holds the service", lambda: old.ask("/v1/catalog/service/web"))
    identity = old.node_id()
    taken = consul_backup.take(old.config, "by-hand")
    assert consul_backup.status(old.config)["problem"] == ""
    old.agent.stop()

    new = sites("new")
    new.ask("/v1/kv/answer", 0)
    new.ask("/v1/kv/later", 1)
    assert new.node_id() != identity
    result = consul_backup.restore(new.config, taken["file"])

    assert result["index"] == taken["index"]
    assert base64.b64decode(new.ask("/v1/kv/answer", token=reader)[0]["Value"]) == b"42", "the token and what it may read are back"
    with pytest.raises(urllib.error.HTTPError, match="404"):
        new.ask("/v1/kv/later")
    assert result["replaced_nodes"] == ["edge-under-test"]
    # The agent enters itself again at its next comparison, and at once when it has something to tell. While it is at one, Consul
    # now and then ends the connection without an answer (5 of 100 tries with 1.22.5), so a caller has to ask again.
    poll("the agent takes the service", lambda: new.ask("/v1/agent/service/register", {"Name": "web", "Port": 81}) is None)
    poll("the new server is in the catalogue", new.knows_itself)
    poll("and so is its service", lambda: [entry["ServicePort"] for entry in new.ask("/v1/catalog/service/web")] == [81])

    again = consul_backup.restore(new.config, taken["file"])
    assert again["replaced_nodes"] == ["edge-under-test"], "a second time is the same as the first"


def test_without_a_token_nothing_is_taken_and_the_reason_is_told(sites: t.Callable[[str], Site]) -> None:
    site = sites("guarded")
    site.token_file.unlink()
    with pytest.raises(consul_backup.BackupError, match="Permission denied"):
        consul_backup.take(site.config)
    assert consul_backup.snapshots(site.config.directory) == []


def test_a_connection_that_breaks_costs_no_snapshot(sites: t.Callable[[str], Site], tmp_path: Path) -> None:
    """Consul's program fails once and twice, and then a third time."""
    site = sites("breaking")
    program, count = tmp_path / "consul", tmp_path / "count"
    program.write_text(
        f"""#!/bin/sh
if [ "$2" = save ]; then
    echo >> {count}
    [ "$(wc -l < {count})" -ge "$(cat {tmp_path}/good)" ] || {{ echo 'connection reset by peer' >&2; exit 1; }}
fi
exec {site.config.consul} "$@"
""",
        encoding="utf-8",
    )
    program.chmod(0o755)
    config = site.config._replace(consul=str(program))
    (tmp_path / "good").write_text("3", encoding="ascii")
    assert Path(consul_backup.take(config, "third")["file"]).exists()
    count.unlink()
    (tmp_path / "good").write_text("4", encoding="ascii")
    with pytest.raises(consul_backup.BackupError, match="connection reset by peer"):
        consul_backup.take(config, "never")
    assert [one.label for one in consul_backup.snapshots(config.directory)] == ["third"]


#: Secrets of the site's tokens: a new site gets the same ones, because they are on the control node.
SECRETS = {"backup": "b0000000-0000-4000-8000-000000000001", "automation": "b0000000-0000-4000-8000-000000000002"}


def guard(site: Site, directory: Path) -> consul_backup.Config:
    """Give the site the tokens of the secure form, and return the program's configuration there."""
    files = {}
    for name, secret in SECRETS.items():
        policy = site.ask("/v1/acl/policy", {"Name": name, "Rules": SITE_WIDE[name]})
        site.ask("/v1/acl/token", {"SecretID": secret, "Policies": [{"ID": policy["ID"]}]})
        files[name] = directory / f"{name}.token"
        files[name].write_text(f"{secret}\n", encoding="ascii")
    return site.config._replace(token_file=str(files["backup"]), restored_token_file=str(files["automation"]))


def test_the_tokens_of_the_secure_form_bring_a_new_server_back(sites: t.Callable[[str], Site], tmp_path: Path) -> None:
    old = sites("old")
    taken = consul_backup.take(guard(old, tmp_path), "by-hand")
    old.agent.stop()

    new = sites("new")
    config = guard(new, tmp_path)
    # The token of the backups sees no node, which must not look like a catalogue in which nothing is to be done.
    with pytest.raises(consul_backup.BackupError, match=r"sees no node of the cluster.*consul_backup_restored_token_file"):
        consul_backup.restore(config._replace(restored_token_file=""), taken["file"])
    assert consul_backup.restore(config, taken["file"])["replaced_nodes"] == ["edge-under-test"]
    poll("the agent takes a service", lambda: new.ask("/v1/agent/service/register", {"Name": "web", "Port": 81}) is None)
    poll("the new server is in the catalogue", new.knows_itself)


def test_a_token_that_may_only_read_is_told_what_it_lacks(sites: t.Callable[[str], Site], tmp_path: Path) -> None:
    old = sites("old")
    policy = old.ask("/v1/acl/policy", {"Name": "reader", "Rules": 'node_prefix "" { policy = "read" }'})
    secret = old.ask("/v1/acl/token", {"Policies": [{"ID": policy["ID"]}]})["SecretID"]
    taken = consul_backup.take(old.config, "by-hand")
    old.agent.stop()
    reader = tmp_path / "reader.token"
    reader.write_text(secret, encoding="ascii")
    with pytest.raises(consul_backup.BackupError, match=r"Permission denied.*node:write"):
        consul_backup.restore(sites("new").config, taken["file"], str(reader))
